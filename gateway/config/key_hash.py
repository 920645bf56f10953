"""The value of an API key that clients present: only its hash is kept."""

from __future__ import annotations

import hashlib
import hmac

SHORTEST = 8


class KeyHash:
    """A SHA-256 digest in place of a secret; nothing leads back from it to the value.

    API keys are long and random, so one fast hash is enough: there is no dictionary to try.
    """

    __slots__ = ("digest",)

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        """32 bytes."""

    @classmethod
    def of(cls, value: str) -> KeyHash:
        """Hash `value`. Raises `ValueError`, which does not quote it."""
        if not value:
            raise ValueError("is empty; is the environment variable set?")
        if len(value) < SHORTEST:
            raise ValueError(f"has fewer than {SHORTEST} characters: too easy to guess")
        if not (value.isascii() and value.isprintable()) or " " in value:
            raise ValueError(
                "holds a space, a line break or a character that no Authorization header can carry"
            )
        return cls(hashlib.sha256(value.encode()).digest())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyHash) and hmac.compare_digest(self.digest, other.digest)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return "<secret>"

"""What came of one check on one replica."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Outcome(StrEnum):
    """How a check ended; only `BROKEN` is a broken promise."""

    KEPT = "kept"
    """It does what it should."""
    REFUSED = "refused"
    """It says a clear no, to something that depends on its model or on how it was started."""
    ABSENT = "absent"
    """It is not claimed, so no client's request of the kind gets there."""
    TRANSLATED = "translated"
    """It is not claimed, and the gateway makes it of what is: a client's request gets an answer."""
    UNCLEAR = "unclear"
    """Nothing speaks against it, and nothing for it."""
    BROKEN = "broken"
    """It does not do what it claims, or does it wrongly."""


class Finding(msgspec.Struct, frozen=True):
    """One check on one replica: `detail` says what was seen."""

    target: str
    check: str
    outcome: Outcome
    detail: str = ""


MISSHAPEN = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError)
"""What looking into an answer raises where it has another shape than it should."""


class BrokenPromiseError(Exception):
    """An answer is not what was asked for; the message says in what."""


class UnclearError(Exception):
    """An answer shows neither that it works nor that it does not."""


def require(held: object, otherwise: str) -> None:
    """Raise `BrokenPromiseError(otherwise)` unless `held`."""
    if not held:
        raise BrokenPromiseError(otherwise)

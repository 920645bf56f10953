"""Check a whole JSON answer, and read from it what the gateway tells of it."""

from __future__ import annotations

import msgspec

from backends.malformed import MALFORMED
from gateway.wire.finish import BROKEN_OFF
from gateway.wire.usage import Usage


class _Choice(msgspec.Struct, frozen=True):
    finish_reason: str | None = None


class JsonAnswer(msgspec.Struct, frozen=True):
    """The fields of an answer that the gateway looks at; the rest is skipped."""

    model: str | None = None
    usage: Usage | None = None
    choices: tuple[_Choice, ...] | None = None

    @property
    def broken_off(self) -> bool:
        """Whether the engine itself says that this is not the whole answer."""
        return any(choice.finish_reason in BROKEN_OFF for choice in self.choices or ())


class MalformedAnswerError(Exception):
    """An answer that is not a JSON object."""


_decode = msgspec.json.Decoder(JsonAnswer).decode


def read_answer(body: bytes) -> JsonAnswer:
    """The routing fields of `body`. Raises `MalformedAnswerError` where it is torn or not JSON."""
    try:
        return _decode(body)
    except MALFORMED as error:
        raise MalformedAnswerError(f"the answer is not the JSON it should be: {error}") from None

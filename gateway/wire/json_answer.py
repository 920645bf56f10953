"""Check a whole JSON answer, and read from it what the gateway tells of it."""

from __future__ import annotations

from typing import Any

import msgspec

from backends.malformed import MALFORMED
from gateway.wire import lenient
from gateway.wire.finish import BROKEN_OFF
from gateway.wire.usage import Usage


class _Choice(msgspec.Struct, frozen=True):
    finish_reason: Any = None


class JsonAnswer(msgspec.Struct, frozen=True):
    """The fields of an answer that the gateway looks at; the rest is skipped."""

    model: str | None = None
    usage: Usage | None = None
    choices: list[_Choice] | None = None
    error: Any = None
    """What went wrong, in an answer whose status does not say so."""

    @property
    def broken_off(self) -> bool:
        """Whether the engine itself says that this is not the whole answer."""
        return any(choice.finish_reason in BROKEN_OFF for choice in self.choices or ())


class MalformedAnswerError(Exception):
    """An answer that is no JSON."""


_decode = lenient.decoder(JsonAnswer)


def read_answer(body: bytes) -> JsonAnswer:
    """What is told of `body`, any JSON. Raises `MalformedAnswerError` where it is torn or none."""
    try:
        return _decode(body)
    except MALFORMED as error:
        raise MalformedAnswerError(f"the answer is not valid JSON: {error}") from None

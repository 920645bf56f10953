"""What every dialect's assembler keeps to: events go in, the one answer comes out.

Pure: no I/O and no clock. An assembler is fed whole events in order and is asked once, when the
stream has ended, for the object that the engine would have sent without streaming.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from backends.engine_error import EngineError, parse_error
from backends.malformed import MALFORMED
from backends.sse import events

MAX_ANSWER = 64 << 20
"""Bytes of an answer that are gathered; a longer one is an error, not a reason to buy memory."""


class BrokenStreamError(Exception):
    """The stream makes no answer: an event is torn, the end is missing, or it is too long."""


class EngineSaysError(Exception):
    """The engine reported an error inside the stream: `said`."""

    def __init__(self, said: EngineError) -> None:
        super().__init__(said.message)
        self.said = said


class Assembler(ABC):
    """Gathers the events of one stream."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes kept so far, about."""

    def feed(self, block: bytes) -> None:
        """Take in `block`, whole events. Raises `BrokenStreamError`, `EngineSaysError`."""
        for name, data, _ in events(block):
            if name == b"error":
                raise read_error(data)
            try:
                self._event(name, data)
            except MALFORMED as error:
                raise BrokenStreamError(f"an event is malformed: {error}") from None
        if self.size > MAX_ANSWER:
            raise BrokenStreamError(f"the answer is longer than {MAX_ANSWER >> 20} MiB")

    @abstractmethod
    def answer(self) -> dict[str, Any]:
        """The whole answer, ready for msgspec to encode. Raises `BrokenStreamError`."""

    @abstractmethod
    def _event(self, name: bytes, data: bytes, /) -> None:
        """Take in one event. May raise what is in `MALFORMED`."""


def read_error(data: bytes) -> EngineSaysError:
    """The error in an event."""
    return EngineSaysError(parse_error(None, data))

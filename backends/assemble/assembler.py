"""What every dialect's assembler keeps to: events go in, the one answer comes out.

Pure: no I/O and no clock. An assembler is fed whole events in order and is asked once, when the
stream has ended, for the object that the engine would have sent without streaming.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import msgspec

from backends.sse import events

MAX_ANSWER = 64 << 20
"""Bytes of an answer that are gathered; a longer one is an error, not a reason to buy memory."""


class BrokenStreamError(Exception):
    """The stream makes no answer: an event is torn, the end is missing, or it is too long."""


class EngineSaysError(Exception):
    """The engine reported an error inside the stream.

    `status` is the HTTP status it names, `kind`, `code` and `param` are what it calls the
    error and the field at fault, where it says so.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        kind: str | None = None,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.code = code
        self.param = param


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
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise BrokenStreamError(f"an event is malformed: {error}") from None
        if self.size > MAX_ANSWER:
            raise BrokenStreamError(f"the answer is longer than {MAX_ANSWER >> 20} MiB")

    @abstractmethod
    def answer(self) -> dict[str, Any]:
        """The whole answer, ready for msgspec to encode. Raises `BrokenStreamError`."""

    @abstractmethod
    def _event(self, name: bytes, data: bytes, /) -> None:
        """Take in one event. May raise `msgspec.MsgspecError`."""


def read_error(data: bytes) -> EngineSaysError:
    """The error in an event, flat or below `error`, `response.error` or both."""
    try:
        said = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return EngineSaysError(data[:300].decode("utf-8", "replace"))
    for key in ("response", "error"):
        if isinstance(said, dict) and isinstance(said.get(key), dict | str):
            said = said[key]
    if not isinstance(said, dict):
        return EngineSaysError(str(said))
    code = said.get("code")
    return EngineSaysError(
        _text(said.get("message")) or "the engine gave no reason",
        status=code if isinstance(code, int) and 400 <= code <= 599 else None,
        kind=_text(said.get("type")),
        code=_text(code),
        param=_text(said.get("param")),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None

"""Server-sent events: cut a stream of bytes into whole events, and read one.

Bytes go in as they arrive from the network; what comes out ends with an event's end, so that
whatever is added to them (an error, a `[DONE]`) starts on a fresh line. The format is the
WHATWG HTML standard's, section "Server-sent events"; a lone CR as line end, which no engine
uses, is not recognised.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from backends.base import Header

MAX_EVENT = 16 << 20
"""Bytes: an event that is not complete by then is an error, not a reason to buy memory."""


class EventTooLargeError(Exception):
    """An event did not end within `MAX_EVENT` bytes."""

    def __init__(self) -> None:
        super().__init__(f"an event is longer than {MAX_EVENT >> 20} MiB")


def is_event_stream(headers: Iterable[Header]) -> bool:
    """Whether an answer with these headers is a stream of events."""
    for name, value in headers:
        if name == b"content-type":
            return value.partition(b";")[0].strip().lower() == b"text/event-stream"
    return False


class EventCutter:
    """Holds back the beginning of an event until its end has come."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = bytearray()

    def feed(self, data: bytes) -> bytes:
        """The whole events that are complete with `data`; empty where there is none.

        Raises `EventTooLargeError`.
        """
        if not self._tail and data.endswith(b"\n\n"):
            return data  # one write of the engine is mostly one whole event: no copy
        searched = max(0, len(self._tail) - 3)
        self._tail += data
        end = max(_end_of(self._tail, b"\n\n", searched), _end_of(self._tail, b"\n\r\n", searched))
        if end == 0 and len(self._tail) > MAX_EVENT:
            raise EventTooLargeError
        whole = bytes(self._tail[:end])
        del self._tail[:end]
        return whole

    @property
    def rest(self) -> bytes:
        """What has come of an event that never ended."""
        return bytes(self._tail)


def _end_of(data: bytearray, separator: bytes, start: int) -> int:
    found = data.rfind(separator, start)
    return found + len(separator) if found >= 0 else 0


_BLANK_LINE = re.compile(rb"\n\r?\n")


def events(block: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """The `(event, data, end)` of each event in `block`, whole events; comments are passed over.

    `event` is empty where the stream names none; `end` is where in `block` the event has ended.
    llama-server has sent errors in a field of that name: they come out as `(b"error", …)` like
    everybody else's.
    """
    start = 0
    for blank in _BLANK_LINE.finditer(block):
        name, data = _fields(block[start : blank.start()])
        start = blank.end()
        if data is not None:
            yield name, data, start


def _fields(event: bytes) -> tuple[bytes, bytes | None]:
    if event.startswith(b"data: ") and b"\n" not in event:
        return b"", event[6:].rstrip(b"\r")
    name = b""
    data: list[bytes] = []
    for line in event.splitlines():
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
        elif field == b"error":
            name = b"error"
            data.append(value)
    return name, b"\n".join(data) if data else None

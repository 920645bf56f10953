"""How far a stream of `/v1/responses` has come, for the events that say how it broke.

Of what goes out only the first and the last piece are kept, and read when it matters: a stream that
never breaks pays for two references.
"""

from __future__ import annotations

from typing import Any

import msgspec

from backends.malformed import MALFORMED
from backends.sse import events

_KEPT = 1 << 18
"""Bytes: a response that begins with more, of instructions and tools, is not told of again."""


class _Event(msgspec.Struct):
    sequence_number: int | None = None
    response: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Event).decode


class ResponseProgress:
    """What the client has been told of its response."""

    __slots__ = ("_first", "_last")

    def __init__(self) -> None:
        self._first = self._last = b""

    def note(self, piece: bytes) -> None:
        """Take note of `piece`, whole events that go out; comments tell nothing."""
        if piece.startswith(b":") and b"\ndata" not in piece:
            return
        if not self._first:
            self._first = piece[:_KEPT]
        self._last = piece

    @property
    def number(self) -> int | None:
        """The `sequence_number` of the last event; None where they have none."""
        numbers = [event.sequence_number for event in _read(self._last)]
        return next((one for one in reversed(numbers) if one is not None), None)

    @property
    def response(self) -> dict[str, Any] | None:
        """The response as it began; None where that was not told, or at too great a length."""
        return next((one.response for one in _read(self._first) if one.response), None)


def _read(piece: bytes) -> list[_Event]:
    """The events of `piece`, as far as they can be read."""
    read = []
    for _, data, _ in events(piece):
        try:
            read.append(_decode(data))
        except MALFORMED:
            continue
    return read

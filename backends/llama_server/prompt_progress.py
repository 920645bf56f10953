"""Take llama-server's reports on its work on the prompt out of a stream.

They are asked for because the engine notices a client that has left only when it has something
to send (see the package); the client has not asked for them. They all come before the first
piece of the answer, and repeat an event that comes without them: they can simply be left out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from backends.base import BackendError, ByteStream, Cause, Stage
from backends.sse import EventCutter, EventTooLargeError, events

_REPORT = b'"prompt_progress":'


class WithoutProgress:
    """A stream without its reports; once one event is none, the rest passes as it comes."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._cutter: EventCutter | None = EventCutter()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while self._cutter is not None:
            try:
                piece = await self._stream.__anext__()
            except StopAsyncIteration:
                return self._rest(self._cutter)
            if kept := self._filter(self._cutter, piece):
                return kept
        return await self._stream.__anext__()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def _rest(self, cutter: EventCutter) -> bytes:
        """The last event, where it lacks its blank line."""
        self._cutter = None
        if not cutter.rest or _REPORT in cutter.rest:
            raise StopAsyncIteration
        return cutter.rest

    def _filter(self, cutter: EventCutter, piece: bytes) -> bytes:
        try:
            block = cutter.feed(piece)
        except EventTooLargeError as error:
            raise BackendError(Stage.STREAMING, Cause.PROTOCOL, str(error)) from error
        reports = 0
        for _, data, end in events(block):
            if _REPORT not in data:
                self._cutter = None
                return block[reports:] + cutter.rest
            reports = end
        return b""

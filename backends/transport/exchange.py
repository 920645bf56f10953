"""One answer on its way: filled by the connection that receives it, drained by one reader.

The state only moves forward: waiting for the head, then the body, then complete or failed. What
has arrived is handed out before an end or a failure is told, in the order of the wire.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Protocol

import httpx

from backends.base import Header

HIGH_WATER = 128 * 1024
"""Bytes of body that may wait for the reader before the connection stops reading."""


class Line(Protocol):
    """What an answer needs of the connection it comes on."""

    def resume(self) -> None:
        """Read on; the reader has taken what was there."""

    def abort(self) -> None:
        """Close the socket at once."""


class Exchange(httpx.AsyncByteStream):
    """The answer to one request; as an `httpx.AsyncByteStream`, its body.

    Iterating gives non-empty pieces: all that has arrived since the last one, at most about
    `HIGH_WATER` plus one read of the event loop. `read_timeout` is the longest silence in
    seconds that the reader puts up with, None for any; None costs nothing.
    """

    def __init__(
        self, line: Line, loop: asyncio.AbstractEventLoop, read_timeout: float | None
    ) -> None:
        self.status = 0
        self.headers: list[Header] = []
        self.complete = False
        self.begun = False
        """Whether any byte of the answer, also of an interim one, has arrived."""
        self.error: httpx.TransportError | None = None
        self.buffered = 0
        self.received = 0
        """Bytes of body so far."""
        self._pieces: list[bytes] = []
        self._line: Line | None = line
        self._loop = loop
        self._read_timeout = read_timeout
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    # The connection's side.

    @property
    def over(self) -> bool:
        """Whether nothing more will arrive."""
        return self.complete or self.error is not None or self._closed

    def feed(self, piece: bytes) -> None:
        """Take a piece of the body."""
        self._pieces.append(piece)
        size = len(piece)
        self.buffered += size
        self.received += size

    def end(self) -> None:
        """The last byte of the answer is here: the connection is free."""
        self.complete = True
        self._line = None
        self.wake()

    def fail(self, error: httpx.TransportError) -> None:
        """The answer will never be complete."""
        if not self.over:
            self.error = error
        self._line = None
        self.wake()

    def wake(self) -> None:
        """Let the waiting reader look again."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # The reader's side.

    async def changed(self, within: float | None) -> None:
        """Wait until something happens, for so many seconds at most. Raises `TimeoutError`."""
        async with asyncio.timeout(within):
            await self._change()

    def _change(self) -> asyncio.Future[None]:
        """Done as soon as something happens."""
        self._waiter = self._loop.create_future()
        return self._waiter

    async def head(self) -> None:
        """Wait until `status` and `headers` are known. Raises `httpx.TransportError`."""
        while not self.status:
            if self.error is not None:
                raise self.error
            await self._more()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next piece. Raises `httpx.TransportError` where the body is cut short."""
        while not self._pieces:
            if self.complete:
                raise StopAsyncIteration
            if self.error is not None:
                raise self.error
            if self._closed:
                raise httpx.StreamClosed
            await self._more()
        return self._take()

    async def aclose(self) -> None:
        """Stop here: an answer that is not complete takes its connection with it."""
        self.close()

    def close(self) -> None:
        """The same without waiting, which it never does."""
        self._closed = not self.complete
        self._pieces.clear()
        self.buffered = 0
        line, self._line = self._line, None
        if line is not None:
            line.abort()
        self.wake()

    def _more(self) -> Awaitable[None]:
        if self._read_timeout is None:
            return self._change()
        return self._more_within(self._read_timeout)

    async def _more_within(self, seconds: float) -> None:
        try:
            await self.changed(seconds)
        except TimeoutError as silence:
            error = httpx.ReadTimeout(f"nothing came for {seconds:g} s")
            if self._line is not None:
                self._line.abort()
            self.fail(error)
            raise error from silence

    def _take(self) -> bytes:
        pieces = self._pieces
        piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        if self.buffered >= HIGH_WATER and self._line is not None:
            self._line.resume()
        self.buffered = 0
        return piece

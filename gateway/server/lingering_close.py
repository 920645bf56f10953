"""Close a connection whose client may still be sending, and have it get its answer all the same.

A socket that is closed with bytes in it unread, or that bytes come to later, is reset; and a reset
takes from the client what it has not read yet: in place of a 413 it sees a broken connection. So
the gateway closes its own half first, and reads and drops what comes until the client closes too
(RFC 9112, section 9.6; nginx's `lingering_close`).

Rules of this file:

- Nobody is waited for without end: `Bounds` says how long, for how many bytes, and of how many at
  once. With one more, the one that has had longest goes.
- It stays one of the server's open connections, and when the server leaves it has a moment more.
- TLS has no half to close. There the client sees from the answer itself where it ends, and is
  given the same time to do so.
"""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec import Struct


class Bounds(Struct, frozen=True, kw_only=True):
    """How much patience there is with clients that have had their answer."""

    time: float = 10.0
    """Seconds as a whole."""
    silence: float = 2.0
    """Seconds in which nothing comes."""
    size: int = 256 << 20
    """Bytes to drop: many times the largest body that is taken."""
    at_once: int = 128
    """Connections at a time."""
    leaving: float = 0.5
    """Seconds as a whole once the server leaves: less than uvicorn waits for its connections."""


class LingeringCloses:
    """Those of one server, the oldest first."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.leaving = False
        self._open: dict[LingeringClose, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def begin(
        self,
        transport: asyncio.Transport,
        connections: set[Any],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Take `transport` from its protocol, and from now on count it in `connections`.

        Everything has been written, and it is being read.
        """
        if len(self._open) >= self.bounds.at_once:
            next(iter(self._open)).cut()
        one = LingeringClose(self, transport, connections, loop)
        self._open[one] = None
        one.start()

    def ended(self, one: LingeringClose) -> None:
        """It is over, or as good as that. Idempotent."""
        self._open.pop(one, None)

    def leave(self) -> None:
        """The server leaves: a moment for those there are, and for those to come. Idempotent."""
        if not self.leaving:
            self.leaving = True
            for one in list(self._open):
                one.hurry()


class LingeringClose(asyncio.Protocol):
    """One of them: drops what comes, until the client closes or a bound is reached."""

    def __init__(
        self,
        owner: LingeringCloses,
        transport: asyncio.Transport,
        connections: set[Any],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.transport = transport
        self._owner = owner
        self._connections = connections
        self._loop = loop
        self._room = owner.bounds.size
        self._heard = loop.time()
        self._deadline = self._heard + owner.bounds.time
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Close our half, and begin to wait for theirs."""
        self._connections.add(self)
        self.transport.set_protocol(self)
        if self.transport.can_write_eof():
            try:
                self.transport.write_eof()
            except OSError:  # the client is gone already
                self.transport.abort()
                return
        if self._owner.leaving:
            self.hurry()
        else:
            self._look()

    def hurry(self) -> None:
        """There is only a moment more."""
        self._deadline = min(self._deadline, self._loop.time() + self._owner.bounds.leaving)
        self._look()

    def shutdown(self) -> None:
        """uvicorn asks this of each connection when the server leaves."""
        self._owner.leave()

    def cut(self) -> None:
        """It has had its time. What it has not even taken of its answer by now is lost."""
        self._stop()
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        self._room -= len(data)
        if self._room < 0:
            self.cut()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._stop()
        self._connections.discard(self)

    def _look(self) -> None:
        """End it where it has lasted too long; else look again when that may be."""
        if self._timer is not None:
            self._timer.cancel()
        too_late = min(self._deadline, self._heard + self._owner.bounds.silence)
        if self._loop.time() >= too_late:
            self.cut()
        else:
            self._timer = self._loop.call_at(too_late, self._look)

    def _stop(self) -> None:
        self._owner.ended(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

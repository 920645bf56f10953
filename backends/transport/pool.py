"""The connections to one origin: idle ones are kept, and the number of all is bounded.

Idle connections are reused last in, first out, so that the surplus of a busy time expires. When
all are busy, requests wait in line, and whatever becomes free is handed to the first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx

from backends.transport.connection import Connection, Owner

Dial = Callable[[Owner, float | None], Awaitable[Connection]]
"""Makes a connection for its owner within so many seconds; raises what `dial.dial` does."""

_CLOSE_WITHIN = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """How many connections to keep, per origin."""

    max_connections: int = 4096
    """Open at once; beyond it requests wait."""
    max_idle: int = 256
    """Kept while nobody uses them."""
    idle_expiry: float = 4.0
    """Seconds an idle connection is kept: below the 5 s after which uvicorn (so vLLM) and
    cpp-httplib (so llama-server) close it, because a request sent just then finds it closed."""


class Pool:
    """Owns all connections to one origin."""

    def __init__(self, dial: Dial, limits: PoolLimits) -> None:
        self._dial = dial
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._open: set[Connection] = set()
        self._idle: deque[Connection] = deque()
        self._promised = 0
        """Places taken by connections that are being made or about to be."""
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None

    @property
    def open(self) -> int:
        """Connections that are open now, idle or busy."""
        return len(self._open)

    @property
    def idle(self) -> int:
        """Connections that wait for a request."""
        return len(self._idle)

    def take(self) -> Connection | None:
        """The warmest idle connection, if there is one."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return None

    async def acquire(
        self, connect_timeout: float | None, pool_timeout: float | None
    ) -> Connection:
        """An idle connection, a new one, or, where all are busy, the next that becomes free.

        Raises `httpx.ConnectError`, `httpx.ConnectTimeout` and `httpx.PoolTimeout`.
        """
        connection = self.take()
        if connection is None and (self._waiters or not self._has_place()):
            connection = await self._wait(pool_timeout)
        return connection or await self.connect(connect_timeout)

    async def connect(self, within: float | None) -> Connection:
        """A new connection `within` so many seconds, also where there is no place:
        it may replace one that was just lost.

        Raises `httpx.ConnectError` and `httpx.ConnectTimeout`.
        """
        self._promised += 1
        try:
            if self._drained is not None:
                raise httpx.ConnectError("the transport is closed")
            connection = await self._dial(self, within)
        except BaseException:
            self._promised -= 1
            self._invite()
            raise
        self._promised -= 1
        self._open.add(connection)
        if self._drained is not None:
            connection.abort()
            raise httpx.ConnectError("the transport was closed meanwhile")
        return connection

    def release(self, connection: Connection) -> None:
        """Hand on or keep a connection whose exchange is over."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if self._drained is not None or len(self._idle) >= self._limits.max_idle:
            connection.abort()
            return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._limits.idle_expiry, self._expire)

    def lost(self, connection: Connection) -> None:
        """Forget a connection whose socket is closed."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._invite()
        if self._drained is not None and not self._open and not self._drained.done():
            self._drained.set_result(None)

    async def aclose(self, within: float = _CLOSE_WITHIN) -> None:
        """Close all connections, the busy ones too; returns when their sockets are closed, or
        after so many seconds: the event loop closes an aborted one in its next rounds."""
        if self._drained is None:
            self._drained = self._loop.create_future()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._idle.clear()
        for connection in list(self._open):
            connection.abort()
        while self._waiters:  # each finds the pool closed
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._promised += 1
                waiter.set_result(None)
        if self._open:
            await asyncio.wait([self._drained], timeout=within)

    def _has_place(self) -> bool:
        return len(self._open) + self._promised < self._limits.max_connections

    async def _wait(self, within: float | None) -> Connection | None:
        """In line for a connection; None is a place for a new one."""
        waiter: asyncio.Future[Connection | None] = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(within):
                connection = await waiter
        except BaseException as error:
            self._return(waiter)
            if isinstance(error, TimeoutError):
                most = self._limits.max_connections
                raise httpx.PoolTimeout(f"all {most} connections were busy") from error
            raise
        if connection is None:
            self._promised -= 1
        return connection

    def _return(self, waiter: asyncio.Future[Connection | None]) -> None:
        """Leave the line; what was given meanwhile goes to the next."""
        if waiter.cancelled() or not waiter.done():
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            return
        connection = waiter.result()
        if connection is None:
            self._promised -= 1
            self._invite()
        elif not connection.closed:
            self.release(connection)

    def _invite(self) -> None:
        """Give a free place to the first in line."""
        while self._waiters and self._has_place():
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._promised += 1
                waiter.set_result(None)

    def _expire(self) -> None:
        """Close what has been idle for too long, and come back when the next one has."""
        self._sweep = None
        now = self._loop.time()
        while self._idle:
            rest = self._idle[0].idle_since + self._limits.idle_expiry - now
            if rest > 0:
                self._sweep = self._loop.call_later(rest, self._expire)
                return
            self._idle.popleft().abort()

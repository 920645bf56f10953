"""httpx's transport interface over pooled HTTP/1.1 connections.

The classic race of keep-alive: the engine closes an idle connection while a request is on its
way. A request on a reused connection that was closed before a byte was written, or ended without
a byte of an answer within `RACE_WINDOW` of the first, is sent once more on a fresh connection.
Nothing else is ever repeated here: whether to ask again is for the attempt loop to judge, which
knows the retry policy and its budget, and counts.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from functools import cached_property

import httpx

from backends.transport.connection import NO_TIMEOUTS, Connection, Owner, UnansweredError
from backends.transport.dial import Origin, dial
from backends.transport.exchange import Exchange
from backends.transport.pool import Pool, PoolLimits

_PORTS = {b"http": 80, b"https": 443}
RACE_WINDOW = 0.15
"""Seconds after the first byte of a request in which the end of its connection counts as the
keep-alive race.

A close that crosses the request on its way is seen one round trip after the request was written:
below 1 ms in a rack, about 100 ms across an ocean, plus what the event loop is late. Where even
that is too short, the attempt loop sees a reset connection, as it would without this. The other
side of the choice: an engine that takes a request, drops it faster than this without a word and
still accepts connections is asked twice. One whose process dies of the request is not: the fresh
connection is refused."""


class Transport(httpx.AsyncBaseTransport):
    """Sends requests to engines, and keeps the connections to them.

    `tls` is the context for `https` origins; without it certificates are checked against the
    system's authorities (or `SSL_CERT_FILE`). Close it with `aclose`; it belongs to the event
    loop it is first used in.

    Of a request's `extensions` it reads `timeout` (httpx's: `connect`, `pool`, `write`, `read`,
    in seconds; absent or None is unlimited) and `uds` (path of a Unix socket to connect to).
    Request bodies are bytes; a streamed one is refused.
    """

    def __init__(
        self, *, limits: PoolLimits | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._limits = limits or PoolLimits()
        self._tls = tls
        self._pools: dict[object, Pool] = {}
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`; returns when the head of the answer is there, its body as `stream`.

        The stream must be closed; before its end that closes the connection, and with it the
        engine's work. Cancelling does the same. Raises `httpx.TransportError`.
        """
        head, body = _encode(request)
        exchange = await self.exchange(
            self.pool(request.url, request.extensions.get("uds")),
            head,
            body,
            request.extensions.get("timeout") or NO_TIMEOUTS,
            bodiless=request.method == "HEAD",
        )
        return httpx.Response(exchange.status, headers=exchange.headers, stream=exchange)

    async def exchange(
        self,
        pool: Pool,
        head: bytes,
        body: bytes,
        timeouts: Mapping[str, float | None],
        *,
        bodiless: bool = False,
    ) -> Exchange:
        """The same below httpx's types, for who sends the same head a thousand times a second.

        `head` is a request's head as it goes on the wire, checked with `check_head`.
        """
        if self._closed:
            raise httpx.ConnectError("the transport is closed")
        connection = pool.take()
        if connection is None:
            connection = await pool.acquire(timeouts.get("connect"), timeouts.get("pool"))
        reused = connection.used
        try:
            return await connection.exchange(head, body, timeouts, bodiless=bodiless)
        except UnansweredError as error:
            if not _raced(error, reused=reused):
                raise
            connection = await _reconnect(pool, timeouts, error)
        return await connection.exchange(head, body, timeouts, bodiless=bodiless)

    async def aclose(self) -> None:
        """Close every connection; answers still open are cut, and no request is sent any more."""
        self._closed = True
        await asyncio.gather(*[pool.aclose() for pool in self._pools.values()])

    @property
    def connections(self) -> int:
        """How many connections are open, idle or busy."""
        return sum(pool.open for pool in self._pools.values())

    @property
    def idle(self) -> int:
        """How many of them wait for a request."""
        return sum(pool.idle for pool in self._pools.values())

    def pool(self, url: httpx.URL, path: str | None = None) -> Pool:
        """The connections to the origin of `url`, or to the Unix socket at `path`.

        Raises `httpx.UnsupportedProtocol`.
        """
        key = (path, url.raw_scheme, url.raw_host, url.port)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = self._new_pool(url, path)
        return pool

    def _new_pool(self, url: httpx.URL, path: str | None) -> Pool:
        port = url.port or _PORTS.get(url.raw_scheme)
        if port is None or not url.raw_host:
            raise httpx.UnsupportedProtocol(f"{url} is not an http:// or https:// URL with a host")
        origin = Origin(url.raw_host.decode("ascii"), port, url.raw_scheme == b"https", path)

        async def connect(owner: Owner, within: float | None) -> Connection:
            return await dial(origin, owner, within, self._context if origin.tls else None)

        return Pool(connect, self._limits)

    @cached_property
    def _context(self) -> ssl.SSLContext:
        if self._tls is not None:
            return self._tls
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        return context


def _raced(error: UnansweredError, *, reused: bool) -> bool:
    """Whether the engine may have closed the connection before it saw the request."""
    return error.after is None or (reused and error.after <= RACE_WINDOW)


async def _reconnect(
    pool: Pool, timeouts: Mapping[str, float | None], error: UnansweredError
) -> Connection:
    try:
        return await pool.connect(timeouts.get("connect"))
    except httpx.TransportError as again:
        if error.after is None:
            raise
        # The first try may have reached the engine: that must not be told as a failed connect.
        raise UnansweredError(f"{error}; then {again}", after=error.after) from again


def _encode(request: httpx.Request) -> tuple[bytes, bytes]:
    """The head and the body of a request as they go on the wire (RFC 9112, 3)."""
    if not isinstance(request.stream, httpx.ByteStream):
        raise TypeError("a request's body must be bytes")
    raw = request.headers.raw
    parts = [request.method.encode("ascii"), b" ", request.url.raw_path, b" HTTP/1.1\r\n"]
    for name, value in raw:
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"\r\n")
    head = b"".join(parts)
    check_head(head, len(raw))
    return head, b"".join(request.stream)


def check_head(head: bytes, headers: int) -> None:
    """Make sure that a head has so many headers, and that none of them brings its own lines.

    Raises `httpx.LocalProtocolError`.
    """
    if len(head.splitlines()) != headers + 2 or b"\0" in head:
        raise httpx.LocalProtocolError("a header of the request has a line break or NUL in it")

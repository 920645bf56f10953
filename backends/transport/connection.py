"""One HTTP/1.1 connection: a protocol for the event loop, a parser, one exchange at a time.

A connection is idle, busy or closed. It goes back to its pool only from a cleanly finished
exchange: request sent whole, answer complete, the peer willing, and not a byte too many. From
every other end it is closed, so that no answer can ever be taken for another's.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Protocol, cast

import httptools
import httpx

from backends.base import Header
from backends.transport.exchange import HIGH_WATER, Exchange

MAX_HEAD = 64 * 1024
"""The largest head of an answer in bytes, and the most framing that may come without a body."""

_WHOLE = 64 * 1024
"""Requests up to this size are handed over in one piece; larger ones as the peer takes them."""


NO_TIMEOUTS: Mapping[str, float | None] = {}
"""Any wait is as long as it takes."""


class UnansweredError(httpx.ReadError):
    """The connection ended before any byte of the answer came.

    `after` is how many seconds after the first byte of the request was written it ended; None
    where no byte was.
    """

    def __init__(self, message: str, *, after: float | None) -> None:
        super().__init__(message)
        self.after = after


class Owner(Protocol):
    """Whoever keeps connections between exchanges."""

    def release(self, connection: Connection) -> None:
        """The connection is free for another exchange."""

    def lost(self, connection: Connection) -> None:
        """The connection's socket is closed."""


class Connection(asyncio.Protocol):
    """A connection to an engine."""

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self.closed = False
        self.used = False
        """Whether an exchange has finished on it."""
        self.idle_since = 0.0
        self._owner = owner
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._bodiless = False
        self._interim = False
        self._keep_alive = False
        self._sent = True
        self._sent_at = 0.0
        self._writable = True
        self._reading = True
        self._barren = 0
        self._fed = 0

    async def exchange(
        self,
        head: bytes,
        body: bytes,
        timeouts: Mapping[str, float | None] = NO_TIMEOUTS,
        *,
        bodiless: bool = False,
    ) -> Exchange:
        """Send a request; returns when the head of its answer is there.

        Of `timeouts`, in seconds, `write` and `read` count. `bodiless` says that the answer has no
        body whatever its headers say (HEAD). Raises `httpx.TransportError`. However this ends but
        well, the connection is closed.
        """
        transport = self._transport
        if self.closed or transport is None:
            raise UnansweredError("the connection was closed before the request", after=None)
        exchange = self._begin(timeouts.get("read"), bodiless)
        try:
            if len(body) <= _WHOLE:
                transport.write(head + body)
            else:
                await self._send_large(transport, exchange, head, body, timeouts.get("write"))
            await exchange.head()
        except BaseException:
            exchange.close()
            raise
        return exchange

    def abort(self) -> None:
        """Close the socket at once; what is unsent or unread is dropped."""
        if self.closed:
            return
        self.closed = True
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.fail(httpx.ReadError("the connection was closed on this side"))
        if self._transport is not None:
            self._transport.abort()

    def resume(self) -> None:
        """Read on after a pause."""
        if not self._reading and not self.closed and self._transport is not None:
            self._reading = True
            self._transport.resume_reading()

    def _pause(self) -> None:
        if self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def _begin(self, read_timeout: float | None, bodiless: bool) -> Exchange:
        exchange = self._exchange = Exchange(self, self._loop, read_timeout)
        self._bodiless = bodiless
        self._keep_alive = False
        self._barren = 0
        self._sent_at = self._loop.time()
        return exchange

    async def _send_large(
        self,
        transport: asyncio.Transport,
        exchange: Exchange,
        head: bytes,
        body: bytes,
        write_timeout: float | None,
    ) -> None:
        self._sent = False
        transport.write(head)
        view = memoryview(body)
        # After a refusal that comes before the request is sent, the rest stays unsent.
        for start in range(0, len(body), _WHOLE):
            while not self._writable and not (exchange.over or exchange.status >= 300):
                await self._wait_writable(exchange, write_timeout)
            if exchange.over or exchange.status >= 300:
                return
            transport.write(view[start : start + _WHOLE])
        self._sent = True

    async def _wait_writable(self, exchange: Exchange, write_timeout: float | None) -> None:
        try:
            await exchange.changed(write_timeout)
        except TimeoutError as silence:
            raise httpx.WriteTimeout(
                f"the peer took no byte of the request for {write_timeout:g} s"
            ) from silence

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set what the socket shall do."""
        self._transport = cast(asyncio.Transport, transport)
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        """Parse what came; wake the reader once for all of it."""
        exchange = self._exchange
        if exchange is None or self._parser is None:
            self.abort()  # nobody asked: an answer to nothing must not answer the next request
            return
        exchange.begun = True
        before = exchange.received
        self._fed = len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._reject(exchange, error)
            return
        if exchange.complete:
            self._finish()
            return
        if exchange.received == before:
            self._barren += self._fed
            if self._barren > MAX_HEAD:
                self._reject(exchange, _TooLargeError())
                return
        else:
            self._barren = 0
            if exchange.buffered >= HIGH_WATER and self._reading:
                self._pause()
        exchange.wake()

    def eof_received(self) -> bool:
        """The peer sends no more: there is no use in sending it the rest of a request."""
        self._ended(None)
        if self._transport is not None:
            self._transport.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed, by whichever side."""
        self._ended(exc)
        self._parser = None  # it holds this object's methods: break the circle
        self._transport = None
        self._owner.lost(self)

    def pause_writing(self) -> None:
        """The peer does not take what is sent."""
        self._writable = False

    def resume_writing(self) -> None:
        """The peer takes more."""
        self._writable = True
        if self._exchange is not None:
            self._exchange.wake()

    # Called by the parser.

    def on_message_begin(self) -> None:
        """A message starts; if the answer is already whole, it is one that nobody asked for."""
        if self._exchange is None or self._exchange.complete:
            self._keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field of the head; trailers are dropped."""
        exchange = self._exchange
        if exchange is not None and not exchange.status:
            exchange.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole: the reader may know it, unless it is an interim one."""
        exchange, parser = self._exchange, self._parser
        if exchange is None or parser is None or exchange.status:
            return
        status = parser.get_status_code()
        if status < 200:
            if status == 101:
                raise _UnaskedUpgradeError
            self._interim = True
            exchange.headers.clear()
            return
        if self._barren + self._fed > MAX_HEAD and _size(exchange.headers) > MAX_HEAD:
            raise _TooLargeError
        exchange.status = status
        self._keep_alive = parser.should_keep_alive()
        if self._bodiless:
            # The parser does not know of HEAD and waits for a body: it is of no more use.
            self._keep_alive = False
            exchange.end()

    def on_body(self, piece: bytes) -> None:
        """Keep a piece of the body."""
        if self._exchange is not None and not self._exchange.complete:
            self._exchange.feed(piece)

    def on_message_complete(self) -> None:
        """The answer is whole, unless it was an interim one."""
        if self._interim:
            self._interim = False
        elif self._exchange is not None and not self._exchange.complete:
            self._exchange.end()

    # The ends of an exchange.

    def _finish(self) -> None:
        """After a complete answer: back to the pool, or closed."""
        self._exchange = None
        self.resume()
        if self._keep_alive and self._sent and not self.closed:
            self.used = True
            self._owner.release(self)
        else:
            self.abort()

    def _reject(self, exchange: Exchange, error: Exception) -> None:
        """What came is not HTTP, or too much of it. After a complete answer it is only dropped."""
        if not exchange.complete:
            reason = error.__context__ if error.__context__ is not None else error
            exchange.fail(httpx.RemoteProtocolError(f"not a valid HTTP answer: {reason}"))
        self.abort()

    def _ended(self, reason: Exception | None) -> None:
        """The peer has closed, or the connection broke."""
        self.closed = True
        exchange, self._exchange = self._exchange, None
        if exchange is None or exchange.over:
            return
        if reason is None and exchange.status and _until_close(exchange):
            exchange.end()
        elif not exchange.begun:
            after = self._loop.time() - self._sent_at
            exchange.fail(
                UnansweredError(
                    f"the connection was closed without an answer{_why(reason)}", after=after
                )
            )
        else:
            exchange.fail(httpx.ReadError(f"the answer was cut short{_why(reason)}"))


class _TooLargeError(Exception):
    def __str__(self) -> str:
        return f"more than {MAX_HEAD} bytes of head or framing"


class _UnaskedUpgradeError(Exception):
    def __str__(self) -> str:
        return "it switches to a protocol nobody asked for"


def _size(headers: list[Header]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)


def _until_close(exchange: Exchange) -> bool:
    """Whether the body ends where the connection does (RFC 9112, 6.3, rule 8)."""
    framing = (b"content-length", b"transfer-encoding")
    return not any(name in framing for name, _ in exchange.headers)


def _why(reason: Exception | None) -> str:
    return f" ({reason})" if reason is not None and str(reason) else ""

"""uvicorn's HTTP protocol, with limits on what a client may do beside a handler's back.

uvicorn bounds neither the size of a request's head and trailers nor the time they take to come,
nor how long a client may leave its answer unread; all of it is memory and sockets that a stranger
may hold. What is refused is told in the API's error shape.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from gateway.api.client_watch import CONNECTION
from gateway.config.structs import Limits
from gateway.errors import (
    BadRequest,
    Dialect,
    GatewayError,
    HeadersTooLarge,
    RequestTimeout,
    render_body,
)
from gateway.server.cycle import Cycle
from gateway.server.lingering_close import Bounds, LingeringCloses
from gateway.server.upgrade import head_without_upgrade

_IN_LINE = 8
"""Pipelined requests that may wait on a connection; with one more, none of them is answered."""


def protocol_with(limits: Limits, lingering: Bounds | None = None) -> type[HttpToolsProtocol]:
    """uvicorn's protocol, bounded by `limits`. uvicorn makes the instances, hence a class."""

    class BoundedProtocol(_BoundedProtocol):
        _limits = limits
        _lingering = LingeringCloses(lingering or Bounds())

    return BoundedProtocol


class _BoundedProtocol(HttpToolsProtocol):
    _limits: Limits
    _lingering: LingeringCloses

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        """Whether the next byte belongs to a head, or to what may stand before one."""
        self._head_size = 0
        self._framing = 0
        """Bytes since the last piece of a body: trailers, or what stands around its chunks."""
        self._upgrading = False
        """Whether the head asks for another protocol, and will be read again without that."""
        self._deaf = False
        """Whether the request of the moment is the last one, whatever else comes."""
        self._head_timer: asyncio.TimerHandle | None = None
        self._refusal: GatewayError | None = None
        self._answering: RequestResponseCycle | None = None
        self._unread = 0
        self._unread_timer: asyncio.TimerHandle | None = None
        self._on_lost: Callable[[], None] | None = None
        self._lost = False

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        """See `gateway.api.client_watch.ClientConnection`."""
        self._on_lost = callback
        if callback is None:
            return
        if self._lost:
            callback()
        else:
            # uvicorn stops reading behind a large body; a peer that leaves is then not noticed.
            self.flow.resume_reading()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._stop_unread_timer()
        super().connection_lost(exc)
        # uvicorn tells the request that came last, which may still be waiting in line.
        answering = self._answering
        if answering is not None and not answering.response_complete:
            answering.disconnected = True
            answering.message_event.set()
        self._lost = True
        if self._on_lost is not None:
            self._on_lost()

    def abort(self) -> None:
        """See `gateway.api.client_watch.ClientConnection`."""
        if self._answering is not None:
            # uvicorn would learn of it later, and complain of an answer without an end.
            self._answering.disconnected = True
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._in_head:
            self._head_size += len(data)
        else:
            self._framing += len(data)
        self._unset_keepalive_if_required()
        self._feed(data)
        if self._deaf or self.transport.is_closing():
            return
        # A head that came in one small piece needs no counting; one still open does.
        if (self._head_size if self._in_head else self._framing) > self._limits.headers:
            self._refuse(self._too_large())
        elif self._head_timer is None and self._waits_for_head():
            self._start_head_timer()

    def _feed(self, data: bytes) -> None:
        pieces: list[bytes | memoryview] = [data]
        try:
            while pieces:
                piece = pieces.pop()
                try:
                    self.parser.feed_data(piece)
                except httptools.HttpParserUpgrade as upgrade:
                    rest = memoryview(piece)[upgrade.args[0] :]
                    pieces += [rest, self._restart_without_upgrade()]
        except httptools.HttpParserError as error:
            if not self._deaf:
                reason = error.__context__ or error  # what was raised in a callback is wrapped
                self._refuse(self._refusal or BadRequest(f"this is not valid HTTP: {reason}"))

    def _restart_without_upgrade(self) -> bytes:
        """Make the parser a new one; what it is to be fed first.

        httptools takes what follows a head with `Upgrade` for another protocol, also a body.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version()
        self._upgrading = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        return head_without_upgrade(method, self.url, version, self.headers)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[CONNECTION] = self  # type: ignore[literal-required]
        self._head_size = self._head_size or 1

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers come here too. They must not pass for headers (RFC 9110, section 6.5.1), and
        # there is none that anybody here would know: they are dropped.
        if self._in_head:
            name = name.lower()
            self.headers.append((name, value))
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True

    def on_headers_complete(self) -> None:
        self._stop_head_timer()
        head, self._head_size = self._head_size, 0
        if head > self._limits.headers and self._size_of_head() > self._limits.headers:
            self._stop_parsing(self._too_large())
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._stop_parsing(BadRequest("CONNECT asks for a tunnel, and this is no proxy"))
            self._upgrading = True
            return
        self._begin_cycle()
        self._in_head = False
        self._framing = 0
        if self.pipeline:
            if len(self.pipeline) > _IN_LINE:
                self._drop_line()
            self.flow.resume_reading()  # who does not read does not notice a client that leaves

    def _begin_cycle(self) -> None:
        """What uvicorn does with a head, but with a `Cycle`, and without what nobody here uses."""
        version = self.parser.get_http_version()
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self.scope["http_version"] = version
        self.scope["path"] = unquote(path) if "%" in path else path
        self.scope["raw_path"] = url.path
        self.scope["query_string"] = url.query or b""
        before, self.cycle = (
            self.cycle,
            Cycle(
                scope=self.scope,
                transport=self.transport,
                flow=self.flow,
                logger=self.logger,
                access_logger=self.access_logger,
                access_log=self.access_log,
                default_headers=self.server_state.default_headers,
                message_event=asyncio.Event(),
                expect_100_continue=self.expect_100_continue,
                keep_alive=version != "1.0" and self.parser.should_keep_alive(),
                on_response=self.on_response_complete,
            ),
        )
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        self._framing = 0
        super().on_body(body)
        if self.cycle is not self._answering and len(self.cycle.body) > HIGH_WATER_LIMIT:
            self._drop_line()

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        super().on_message_complete()
        self._in_head = True

    def _stop_parsing(self, refusal: GatewayError) -> NoReturn:
        self._refusal = refusal
        raise httptools.HttpParserError

    def _drop_line(self) -> NoReturn:
        """Answer the request of the moment and close: whoever pipelines must expect that.

        What waits in line takes memory, and reading no further instead would hide that the
        client leaves.
        """
        assert self._answering is not None
        self._deaf = True
        self._answering.keep_alive = False
        self.cycle = self._answering
        self.pipeline.clear()
        self.flow.resume_reading()
        raise httptools.HttpParserError

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_unread_timer()

    def resume_writing(self) -> None:
        self._stop_unread_timer()
        super().resume_writing()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Go on with the connection, as uvicorn does, or end it."""
        assert self._answering is not None
        if not self._answering.keep_alive:
            self._end()
        if self.transport.is_closing() or self._lost:
            return
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def shutdown(self) -> None:
        """The server leaves: uvicorn asks this of each connection."""
        self._lingering.leave()
        if self.cycle is None or self.cycle.response_complete:
            self._end()
        else:
            self.cycle.keep_alive = False

    def _end(self) -> None:
        """Close the connection: at once, where nothing more of the client's is known to come."""
        more = self._head_size or self.pipeline or self._deaf or self.flow.read_paused
        if more or not self._in_head:
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        """Have the connection closed once the client has done so. For requests it is lost now."""
        if self.flow.write_paused or self.transport.is_closing():
            self.transport.close()  # how long an answer may be left unread is bounded as ever
            return
        self.flow.resume_reading()
        self._unset_keepalive_if_required()
        self._deaf = True
        answering = self._answering
        if answering is not None:
            answering.waiting_for_100_continue = False
            if answering.response_complete:
                self._on_lost = None  # nothing is left that it would end
        self.connection_lost(ConnectionAbortedError())
        self._lingering.begin(self.transport, self.connections, self.loop)

    def _size_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _too_large(self) -> GatewayError:
        return HeadersTooLarge(
            f"the request line and headers, or the trailers, are larger than "
            f"{self._limits.headers} bytes, the limit of `server.limits.headers`"
        )

    def _refuse(self, error: GatewayError) -> None:
        self._stop_head_timer()
        self._respond(error)

    def _respond(self, error: GatewayError) -> None:
        if self._would_be_misread():
            self.transport.close()
            return
        body = render_body(error, Dialect.OPENAI)
        self.transport.write(
            STATUS_LINE[error.status]
            + b"content-type: application/json\r\nconnection: close\r\n"
            + b"content-length: %d\r\n\r\n" % len(body)
            + body
        )
        self._linger()

    def _would_be_misread(self) -> bool:
        """Whether a refusal would pass for part of an answer, or a second one to one request."""
        answering = self._answering
        if answering is None or not answering.response_started:
            return False
        return not answering.response_complete or not self._in_head

    def _waits_for_head(self) -> bool:
        """Whether a head has begun to come, or a body that nobody reads any more."""
        if self._in_head:
            return self._head_size > 0
        return self._answering is not None and self._answering.response_complete

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self._limits.header_timeout, self._head_too_slow)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_too_slow(self) -> None:
        self._head_timer = None
        if self.transport.is_closing():
            return
        if self._head_size == 0:
            self.transport.close()  # it never asked for anything
            return
        self._refuse(
            RequestTimeout(f"no complete request came in {self._limits.header_timeout:g} s")
        )

    def _start_unread_timer(self) -> None:
        self._unread = self.transport.get_write_buffer_size()
        self._unread_timer = self.loop.call_later(self._limits.write_timeout, self._left_unread)

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _left_unread(self) -> None:
        # Nothing is written while writing is paused: any less is what the client has taken.
        if self.transport.get_write_buffer_size() < self._unread:
            self._start_unread_timer()
        else:
            self.transport.abort()

"""The listening side: uvicorn, with limits on what a client may do before a handler sees it.

uvicorn bounds neither the size of a request's head nor the time it takes to come; both are
memory and sockets that a stranger may hold. What it refuses is told in the API's error shape.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from types import FrameType
from typing import Any

import httptools
import uvicorn
from litestar.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.config.structs import Limits
from gateway.config.structs import Server as ServerConfig
from gateway.control.drain import Drain, Phase
from gateway.errors import (
    BadRequest,
    Dialect,
    GatewayError,
    HeadersTooLarge,
    RequestTimeout,
    render_body,
)

logger = logging.getLogger(__name__)

_BACKLOG = 2048
_LAST_RESORT = 3.0
"""Seconds after a second signal until the process ends, whatever still runs."""


class ListenError(Exception):
    """The address cannot be listened on; the message says why and what to do."""


def listen(host: str, port: int) -> socket.socket:
    """Bind the address. Raises `ListenError`."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        bound = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ListenError(
            f"cannot listen on {host}:{port}: {reason}; stop what uses it, or choose another "
            "with `server.port` in routing.yaml or `--port`"
        ) from error
    bound.setblocking(False)
    return bound


def protocol_with(limits: Limits) -> type[HttpToolsProtocol]:
    """uvicorn's protocol, bounded by `limits`. uvicorn makes the instances, hence a class."""

    class BoundedProtocol(_BoundedProtocol):
        _limits = limits

    return BoundedProtocol


class _BoundedProtocol(HttpToolsProtocol):
    _limits: Limits

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._head_size = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._refusal: GatewayError | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        size = len(data)
        if self._in_head:
            self._head_size += size
        super().data_received(data)
        # A head that came in one small piece needs no counting; one still open does.
        if self._in_head and self._head_size and not self.transport.is_closing():
            if self._head_size > self._limits.headers:
                self._refuse(self._too_large())
            elif self._head_timer is None:
                self._start_head_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_head_timer()
        head, self._head_size = self._head_size, 0
        if head > self._limits.headers and self._size_of_head() > self._limits.headers:
            self._refusal = self._too_large()
            raise httptools.HttpParserError("the head is too large")
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._respond(self._refusal or BadRequest(f"this is not valid HTTP: {msg}"))

    def _size_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _too_large(self) -> GatewayError:
        return HeadersTooLarge(
            f"the request line and headers are larger than {self._limits.headers} bytes, the "
            "limit of `server.limits.headers`"
        )

    def _refuse(self, error: GatewayError) -> None:
        self._stop_head_timer()
        self._respond(error)

    def _respond(self, error: GatewayError) -> None:
        body = render_body(error, Dialect.OPENAI)
        self.transport.write(
            STATUS_LINE[error.status]
            + b"content-type: application/json\r\nconnection: close\r\n"
            + b"content-length: %d\r\n\r\n" % len(body)
            + body
        )
        self.transport.close()

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


class GatewayServer(uvicorn.Server):
    """uvicorn's server, whose SIGTERM drains."""

    def __init__(self, app: ASGIApp, config: ServerConfig, drain: Drain) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol_with(config.limits),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=round(config.keep_alive),
                timeout_graceful_shutdown=1,
            )
        )
        self._drain = drain
        self._drain_config = config.drain
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """A signal: drain at the first, end at the second. Runs between two bytecodes."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self.leave, sig)

    def leave(self, sig: int) -> None:
        """Begin the way out, or, asked a second time, end it."""
        if self._draining is None:
            # Somebody at a terminal has no load balancer that must notice first.
            grace = 0.0 if sig == signal.SIGINT else self._drain_config.grace
            self._draining = asyncio.create_task(self._leave(grace))
        else:
            logger.warning("told twice: ending at once")
            self._drain.cut()
            self.should_exit = self.force_exit = True
            asyncio.get_running_loop().call_later(_LAST_RESORT, os._exit, 128 + sig)

    def stop(self) -> None:
        """End without draining: there is nothing to wait for, or it is over."""
        self.should_exit = True

    async def _leave(self, grace: float) -> None:
        try:
            await self._drain.run(grace, self._drain_config.timeout)
        finally:
            self._drain.phase = Phase.CUT
            self.should_exit = True

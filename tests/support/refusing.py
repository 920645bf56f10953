"""A server that answers each request before it has read the body, and then closes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import uvicorn
from litestar.types import Receive, Scope, Send
from uvicorn.server import ServerState

from gateway.config.structs import Limits
from gateway.server.lingering_close import Bounds
from gateway.server.protocol import protocol_with
from tests.support.inprocess import RawClient, post
from tests.support.until import until

LONG = 60.0
"""Seconds after which a test has failed anyway."""
UNREAD = post(b"").replace(b"length: 0", b"length: 99999999999")
"""The head of a request whose body never ends."""


class Refusing:
    """It has the gateway's protocol, and an app of its own."""

    def __init__(self, lingering: Bounds, limits: Limits, answer: bytes) -> None:
        self._answer = answer
        self._config = uvicorn.Config(
            self._app,
            http=protocol_with(limits, lingering),
            interface="asgi3",
            ws="none",
            lifespan="off",
            log_config=None,
        )
        self._config.load()
        self._clients: list[RawClient] = []
        self.state = ServerState()
        self.port = 0

    def protocol(self) -> asyncio.Protocol:
        """That of one connection."""
        made: asyncio.Protocol = self._config.http_protocol_class(  # type: ignore[call-arg]
            config=self._config, server_state=self.state, app_state={}
        )
        return made

    async def connect(self, tls: ssl.SSLContext | None = None) -> RawClient:
        """A client that has not said anything."""
        opened = await asyncio.open_connection("127.0.0.1", self.port, ssl=tls)
        self._clients.append(RawClient(*opened))
        return self._clients[-1]

    async def refused(self) -> RawClient:
        """A client that has had its answer, and of whose body everything is missing."""
        client = await self.connect()
        await client.write(UNREAD)
        assert (await client.response())[0] == 413
        return client

    def leave(self) -> None:
        """What uvicorn does once the drain is over."""
        for connection in list(self.state.connections):
            connection.shutdown()

    async def gone(self) -> None:
        """Wait until no connection is left."""
        await until(lambda: not self.state.connections)

    async def aclose(self) -> None:
        """End all connections, from both sides."""
        for client in self._clients:
            await client.aclose()
        for connection in list(self.state.connections):
            connection.transport.abort()
        await self.gone()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = b"%d" % len(self._answer)
        headers = [(b"connection", b"close"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": self._answer, "more_body": False})


@contextlib.asynccontextmanager
async def refusing(
    *,
    tls: ssl.SSLContext | None = None,
    limits: Limits | None = None,
    answer: bytes = b"full",
    **bounds: float,
) -> AsyncIterator[Refusing]:
    """Such a server; `bounds` that are not named are out of reach."""
    lingering = Bounds(**{"time": LONG, "silence": LONG, **bounds})  # type: ignore[arg-type]
    one = Refusing(lingering, limits or Limits(), answer)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(one.protocol, "127.0.0.1", 0, ssl=tls)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()
        await one.aclose()

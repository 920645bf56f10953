"""uvicorn's server, whose SIGTERM drains."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from types import FrameType

import uvicorn
from litestar.types import ASGIApp

from gateway.config.structs import Server as ServerConfig
from gateway.control.drain import Drain
from gateway.server.protocol import protocol_with

logger = logging.getLogger(__name__)

_LAST_RESORT = 3.0
"""Seconds after a second signal until the process ends, whatever still runs."""


class GatewayServer(uvicorn.Server):
    """uvicorn's server, whose SIGTERM drains."""

    def __init__(self, app: ASGIApp, config: ServerConfig, drain: Drain) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol_with(config.limits),
                interface="asgi3",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                # uvicorn says int, and hands it to the loop, which counts in parts of seconds.
                timeout_keep_alive=config.keep_alive,  # type: ignore[arg-type]
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
            self.should_exit = True

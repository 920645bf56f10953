"""The child of `isolation: process`: loads one engine and serves it on a Unix socket.

    python -m backends.isolation.child SOCKET OPTIONS

OPTIONS is the backend's entry in routing.yaml, as JSON. Whatever keeps the engine from starting, or
from ever generating again, is the last line on standard error, and the exit code is 1.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from backends.base import BackendError
from backends.event_loop import loop_factory
from backends.garbage import calm_collector
from backends.inprocess.failures import failed
from backends.isolation.options import read_options
from backends.isolation.server import EngineServer

if TYPE_CHECKING:
    from backends.inprocess.backend import InProcessBackend

_NAME = "engine"
"""What it calls itself in its log, which the gateway shows behind the replica's name."""
_BACKLOG = 128
_GOODBYE = 1
"""Seconds that replies have to end after SIGTERM: the gateway stops only what nobody uses. Those of
an engine that has died have ended by then, and are only written."""


def main(argv: list[str]) -> int:
    """Serve until told to leave; the exit code."""
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(_Lines())
    logging.basicConfig(level="INFO", handlers=[lines])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    path, entry = argv
    options = read_options(entry)
    try:
        backend = options.open_here(_NAME)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_serve(backend, Path(path)))
    except (ValueError, ImportError, BackendError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


class _Lines(logging.Formatter):
    """Lines for the gateway's log, which has their time, and gives all one level."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return line if record.levelno < logging.WARNING else f"{record.levelname} {line}"


async def _serve(backend: InProcessBackend, path: Path) -> None:
    """Until told to leave; raises `BackendError` when the engine cannot generate any more."""
    try:
        await backend.start()
        calm_collector()
        with _listen(path) as bound:
            config = uvicorn.Config(
                EngineServer(backend),
                lifespan="off",
                log_config=None,
                access_log=False,
                date_header=False,
                server_header=False,
                timeout_graceful_shutdown=_GOODBYE,
                timeout_keep_alive=3600,
            )
            server = uvicorn.Server(config)
            dead = asyncio.create_task(_leave_when_dead(backend, server))
            try:
                await server.serve(sockets=[bound])
            finally:
                died = dead.done()
                dead.cancel()
            if died:
                raise failed(await dead)
    finally:
        await backend.stop()


async def _leave_when_dead(backend: InProcessBackend, server: uvicorn.Server) -> str:
    """Have `server` end when nothing can be generated any more: whoever watches starts another."""
    reason = await backend.until_dead()
    server.should_exit = True
    return reason


def _listen(path: Path) -> socket.socket:
    """A Unix socket that only this user can reach, put in place of one left by a child before."""
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(0o177)
    try:
        bound.bind(str(path))
    finally:
        os.umask(old)
    bound.listen(_BACKLOG)
    return bound


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The child of `isolation: process`: loads one engine and serves it on a Unix socket.

    python -m backends.isolation.child SOCKET OPTIONS

OPTIONS is the backend's entry in routing.yaml, as JSON. Whatever keeps the engine from starting is
the last line on standard error, and the exit code is 1.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from pathlib import Path

import uvicorn

from backends.base import Backend, BackendError
from backends.event_loop import loop_factory
from backends.isolation.options import read_options
from backends.isolation.server import EngineServer

_BACKLOG = 128
_GOODBYE = 1
"""Seconds that replies have to end after SIGTERM: the gateway stops only what nobody uses."""


def main(argv: list[str]) -> int:
    """Serve until told to leave; the exit code."""
    logging.basicConfig(level="INFO", format="%(levelname)s %(message)s", stream=sys.stderr)
    path, entry = argv
    options = read_options(entry)
    try:
        backend = options.open(options.model)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_serve(backend, Path(path)))
    except (ValueError, ImportError, BackendError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _serve(backend: Backend, path: Path) -> None:
    try:
        await backend.start()
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
            await uvicorn.Server(config).serve(sockets=[bound])
    finally:
        await backend.stop()


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

"""Copies bytes from one socket to another and does nothing else: the floor of a Python proxy.

Run as `python -m bench.passthrough PORT UPSTREAM_PORT`. What the gateway costs above it is what
the gateway does; the harness is tested against it too.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import cast

import uvloop


class Side(asyncio.Protocol):
    """One end of a pair of connections; what it reads, its peer writes."""

    def __init__(self) -> None:
        self.peer: Side | None = None
        self.transport: asyncio.Transport | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self.peer is None or self.peer.transport is None:
            self._early.append(data)
            return
        self.peer.transport.write(data)

    def connection_lost(self, _error: Exception | None) -> None:
        """The connection is gone."""
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.close()

    def pair(self, peer: Side) -> None:
        """Be the other end of `peer`, and hand it what came too early."""
        self.peer, peer.peer = peer, self
        assert peer.transport is not None
        peer.transport.writelines(self._early)


class ClientSide(Side):
    """The end towards the client, which makes the other."""

    def __init__(self, upstream: int, tasks: set[asyncio.Task[None]]) -> None:
        super().__init__()
        self._upstream = upstream
        self._tasks = tasks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        super().connection_made(transport)
        task = asyncio.get_running_loop().create_task(self._connect())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, peer = await loop.create_connection(Side, "127.0.0.1", self._upstream)
        self.pair(peer)


async def serve(port: int, upstream: int) -> None:
    """Copy bytes on loopback until SIGTERM."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    tasks: set[asyncio.Task[None]] = set()
    await loop.create_server(lambda: ClientSide(upstream, tasks), "127.0.0.1", port)
    await stopped.wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))

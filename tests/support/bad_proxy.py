"""A line to an engine that fails in the middle of an answer, in a way that is told beforehand.

It passes bytes on as they come. Once it is no longer `at_peace`, it does its mischief somewhere in
the answer to each request, told by its id, that it sees for the first time.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import AsyncIterator
from enum import StrEnum
from random import Random

_REQUEST_ID = re.compile(rb"\r\nx-request-id: ([^\r]+)\r\n", re.IGNORECASE)
_LONGEST = 24_000
"""Bytes of an answer, of which a token takes about 230, before which it happens."""


class Mischief(StrEnum):
    RESET = "reset"
    HALF_CLOSE = "half-close"
    CORRUPT = "corrupt"
    SILENCE = "silence"


class BadProxy:
    """Listens on a port of its own for one engine."""

    def __init__(self, target: int, mischief: Mischief, rng: Random, seen: set[bytes]) -> None:
        """`seen` are the requests that have been disturbed: several proxies may share it."""
        self._target = target
        self._mischief = mischief
        self._rng = rng
        self._seen = seen
        self._lines: set[asyncio.Task[None]] = set()
        self.at_peace = True
        """It does nothing yet."""
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._lines.add(task)
        try:
            await _Line(self, reader, writer).run()
        except* (OSError, asyncio.CancelledError):
            pass  # a side has left, or the test is over
        finally:
            self._lines.discard(task)
            writer.close()

    async def close(self) -> None:
        """Cut every line."""
        for line in list(self._lines):
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)

    def after(self, head: bytes) -> int | None:
        """After how many bytes of the answer to a request with this head; None for never."""
        found = _REQUEST_ID.search(head)
        if self.at_peace or found is None or found[1] in self._seen:
            return None
        self._seen.add(found[1])
        return self._rng.randint(1, _LONGEST)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._target)

    @property
    def mischief(self) -> Mischief:
        return self._mischief


class _Line:
    def __init__(
        self, proxy: BadProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._proxy = proxy
        self._reader, self._writer = reader, writer
        self._left: int | None = None
        self._left_by_gateway = asyncio.Event()

    async def run(self) -> None:
        reader, writer = await self._proxy.connect()
        try:
            async with asyncio.TaskGroup() as group:
                there = group.create_task(self._there(writer))
                await self._back(reader)
                there.cancel()
        finally:
            writer.close()

    async def _there(self, engine: asyncio.StreamWriter) -> None:
        while data := await self._reader.read(1 << 16):
            if data.startswith(b"POST "):
                self._left = self._proxy.after(data)
            engine.write(data)
            await engine.drain()
        self._left_by_gateway.set()
        engine.close()

    async def _back(self, engine: asyncio.StreamReader) -> None:
        while data := await engine.read(1 << 16):
            if self._left is not None and len(data) >= self._left:
                part, self._left = data[: self._left], None
                self._writer.write(part)
                await self._writer.drain()
                if not await self._disturb(data[len(part) :]):
                    return
                continue
            if self._left is not None:
                self._left -= len(data)
            self._writer.write(data)
            await self._writer.drain()

    async def _disturb(self, rest: bytes) -> bool:
        """Whether the line goes on after it."""
        match self._proxy.mischief:
            case Mischief.RESET:
                sock = self._writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._writer.transport.abort()
                return False
            case Mischief.HALF_CLOSE:
                self._writer.write_eof()
                await self._left_by_gateway.wait()
                return False
            case Mischief.CORRUPT:
                self._writer.write(rest.replace(b"{", b"\x00{", 3))
                return True
            case Mischief.SILENCE:
                await self._left_by_gateway.wait()
                return False


@contextlib.asynccontextmanager
async def bad_proxies(
    *targets: int, mischief: Mischief, seed: int
) -> AsyncIterator[list[BadProxy]]:
    """A proxy for each port of an engine: each request is disturbed by one of them, once."""
    rng, seen = Random(seed), set[bytes]()
    proxies = [BadProxy(target, mischief, rng, seen) for target in targets]
    servers = [await asyncio.start_server(proxy.serve, "127.0.0.1", 0) for proxy in proxies]
    for proxy, server in zip(proxies, servers, strict=True):
        proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxies
    finally:
        for proxy, server in zip(proxies, servers, strict=True):
            server.close()
            await proxy.close()

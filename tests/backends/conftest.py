"""A peer on a real socket, whose every connection follows a script.

A script is a list of steps: bytes are sent, the steps below do what they are called. The first
connection follows the first script, and so on; the last script serves all that come later.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

import pytest


class Step(Enum):
    READ = auto()
    """Read one request, head and body."""
    READ_HEAD = auto()
    """Read no further than the head of a request."""
    CLOSE = auto()
    """Close with all that was written sent."""
    EOF = auto()
    """Say that no more will be sent, and keep the connection."""
    RESET = auto()
    """Close with a TCP reset."""
    HANG = auto()
    """Do nothing until the other side closes."""
    STALL = auto()
    """Do nothing until the test says `go`, nor read."""
    LOOP = auto()
    """Begin the script again."""


Script = Sequence[bytes | Step]


@dataclass
class Peer:
    scripts: Sequence[Script]
    requests: list[bytes] = field(default_factory=list)
    accepted: int = 0
    open: int = 0
    written: int = 0
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    """The other side has closed while a script hung."""
    go: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self.scripts[min(self.accepted, len(self.scripts) - 1)]
        self.accepted += 1
        self.open += 1
        try:
            while True:
                for step in script:
                    if not await self._follow(step, reader, writer):
                        return
                if Step.LOOP not in script:
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            self.hung_up.set()
        finally:
            self.open -= 1
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
                async with asyncio.timeout(5):
                    await writer.wait_closed()

    async def _follow(
        self, step: bytes | Step, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        match step:
            case bytes():
                for start in range(0, len(step), 65536):
                    writer.write(step[start : start + 65536])
                    await writer.drain()
                    self.written += len(step[start : start + 65536])
            case Step.READ:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                self.requests.append(head + body)
            case Step.READ_HEAD:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            case Step.RESET:
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return False
            case Step.EOF:
                writer.write_eof()
            case Step.HANG:
                await reader.read()
                self.hung_up.set()
                return False
            case Step.STALL:
                await self.go.wait()
            case Step.CLOSE:
                return False
        return True


Start = Callable[..., "contextlib.AbstractAsyncContextManager[Peer]"]


@contextlib.asynccontextmanager
async def _peer(
    *scripts: Script,
    tls: ssl.SSLContext | None = None,
    path: Path | None = None,
    receive_buffer: int | None = None,
) -> AsyncIterator[Peer]:
    peer = Peer(scripts)
    if path is not None:
        server = await asyncio.start_unix_server(peer.serve, path)
        peer.url = "http://engine"
    else:
        sock = socket.create_server(("127.0.0.1", 0))
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        server = await asyncio.start_server(peer.serve, sock=sock, ssl=tls)
        scheme = "https" if tls else "http"
        peer.url = f"{scheme}://127.0.0.1:{sock.getsockname()[1]}"
    try:
        yield peer
    finally:
        peer.go.set()
        server.close()
        for _ in range(500):
            if not peer.open:
                break
            await asyncio.sleep(0.01)
        assert not peer.open, "a connection was left open"


@pytest.fixture
def start_peer() -> Start:
    return _peer


@pytest.fixture
def step() -> type[Step]:
    return Step

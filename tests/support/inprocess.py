"""A gateway in the test's own event loop, on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from gateway import config
from gateway.app import Gateway
from gateway.server import listen
from tests.support.upstream import ENGINE_MODEL, Upstream


@dataclass
class Running:
    """A gateway that listens, and a client for it."""

    gateway: Gateway
    port: int
    client: httpx.AsyncClient
    path: Path
    """Its routing.yaml."""
    raw: list[RawClient] = field(default_factory=list)

    async def chat(self, stream: bool = False, **fields: Any) -> httpx.Response:
        """Ask for a chat completion and take the whole answer."""
        return await self.client.post("/v1/chat/completions", json=ask(stream=stream, **fields))

    async def connect(self) -> RawClient:
        """A connection to write bytes to."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        self.raw.append(RawClient(reader, writer))
        return self.raw[-1]

    async def send(self, data: bytes, within: float = 5.0) -> bytes:
        """Write `data` to a connection of its own; all that comes back until it is closed."""
        raw = await self.connect()
        await raw.write(data)
        return await raw.rest(within)

    async def exchange(self, data: bytes, within: float = 5.0) -> tuple[int, bytes, bytes]:
        """Write `data` to a connection of its own; status, head and body of the answer."""
        raw = await self.connect()
        await raw.write(data)
        return await raw.response(within)


class RawClient:
    """A client that sends what no library would."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, within: float = 5.0) -> bytes:
        """The next head, its blank line included."""
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), within)

    async def response(self, within: float = 5.0) -> tuple[int, bytes, bytes]:
        """Status, head and body of the next answer that has a length."""
        head = await self.head(within)
        status = int(head.split(b" ", 2)[1])
        length = next(
            (
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            ),
            0,
        )
        return status, head, await asyncio.wait_for(self.reader.readexactly(length), within)

    async def rest(self, within: float = 5.0) -> bytes:
        """Everything until the other side closes."""
        return await asyncio.wait_for(self.reader.read(), within)

    def reset(self) -> None:
        self.writer.transport.abort()

    async def aclose(self) -> None:
        self.reset()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


def ask(stream: bool = False, **fields: Any) -> dict[str, Any]:
    """The body of a chat request."""
    body = {"model": "tale", "messages": [{"role": "user", "content": "Hello"}], **fields}
    return {**body, "stream": True} if stream else body


def post(body: bytes, *headers: bytes, path: str = "/v1/chat/completions") -> bytes:
    """A whole request as bytes."""
    fields = b"".join(header + b"\r\n" for header in headers)
    return (
        f"POST {path} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n".encode()
        + fields
        + b"content-length: %d\r\n\r\n" % len(body)
        + body
    )


def routing(*upstreams: Upstream, model: Mapping[str, Any] | None = None, **sections: Any) -> Any:
    """A routing.yaml: one model, `tale`, whose replicas are `upstreams`.

    `model` adds keys to the model, `sections` to the file. Round robin begins with the second
    replica, so that is the one a test puts its trouble on.
    """
    default = {
        "backends": {
            "engine": {
                "use": "openai",
                "replicas": [upstream.url for upstream in upstreams],
                "model": ENGINE_MODEL,
            }
        },
        "models": {
            "tale": {
                "backend": "engine",
                "balance": "round_robin",
                "retry": {"backoff": "1ms", "max_backoff": "50ms"},
                **(model or {}),
            }
        },
        "telemetry": {"access_log": False},
    }
    return {**default, **sections}


@contextlib.asynccontextmanager
async def serving(
    directory: Path, document: Any, env: Mapping[str, str] | None = None
) -> AsyncIterator[Running]:
    """A gateway for `document`, written to a routing.yaml in `directory`."""
    path = directory / "routing.yaml"
    path.write_text(json.dumps(document))  # JSON is YAML
    checked = config.load(path, env or {})
    gateway = Gateway(path, checked, env or {})
    bound = listen("127.0.0.1", 0)
    ready = asyncio.Event()
    before = asyncio.all_tasks()
    serve = asyncio.create_task(gateway.run(bound, lambda _: ready.set()))
    try:
        await _either(ready, serve)
        port = bound.getsockname()[1]
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            trust_env=False,
            verify=False,
            timeout=10,
            limits=limits,
        ) as client:
            running = Running(gateway, port, client, path)
            try:
                yield running
            finally:
                for raw in running.raw:
                    await raw.aclose()
    finally:
        await _end(gateway, serve, bound)
    await _nothing_left(before)


async def _either(ready: asyncio.Event, serve: asyncio.Task[None]) -> None:
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([waiting, serve], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if serve.done():
        serve.result()


async def _end(gateway: Gateway, serve: asyncio.Task[None], bound: socket.socket) -> None:
    # Cancelled rather than asked: uvicorn looks only ten times a second whether it shall end.
    serve.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serve
    server = gateway._server
    for listener in server.servers:
        listener.close()
    for connection in list(server.server_state.connections):
        connection.transport.abort()
    bound.close()


async def _nothing_left(before: set[Any]) -> None:
    """Every task that the gateway began has ended."""
    before = {*before, asyncio.current_task()}  # a fixture ends in another task than it began in
    for _ in range(200):
        left = {task for task in asyncio.all_tasks() - before if "upstream" not in repr(task)}
        if not left:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"tasks left behind: {left}")

"""An engine that does what it is told, good or bad: behaviour is data, nothing is patched.

An `Upstream` listens on a real socket. Each inference request is answered by the next script, a
tuple of steps; the last script serves all that come after it. Probes (`GET`) are answered by
themselves and counted apart. Everything that reaches the engine is written down in `seen`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.steps import (
    BeforeBody,
    Close,
    Drip,
    Flood,
    HalfClose,
    Hold,
    Pause,
    Reset,
    Script,
    Send,
    Silence,
    Step,
    StopReading,
)

# -- what the engine saw -------------------------------------------------------------------------


@dataclass
class Seen:
    """One request as it reached the engine."""

    at: float
    """Monotonic seconds."""
    method: str
    path: str
    headers: list[tuple[str, str]]
    connection: int
    """The number of the connection it came on."""
    body: bytes = b""
    """Empty where the script began before it was read."""
    pushed: int = 0
    """Bytes of the answer handed to the socket so far."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the other side closed before the script was through."""
    left_at: float = 0.0
    answered: bool = False

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    async def gone(self, within: float = 5.0) -> float:
        """Wait until the other side leaves; when that was, in monotonic seconds."""
        await asyncio.wait_for(self.left.wait(), within)
        return self.left_at


class _Connection(asyncio.Protocol):
    def __init__(self, upstream: Upstream, number: int) -> None:
        self._upstream = upstream
        self._number = number
        self._buffer = b""
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._current: Seen | None = None
        self.closed = False
        self.transport: Any = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._upstream.connections.add(self)
        self._task = asyncio.create_task(self._run())

    @property
    def is_busy(self) -> bool:
        return self._current is not None and not self._current.answered

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._arrived.set()

    def eof_received(self) -> bool:
        self._leave()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._leave()
        self._upstream.connections.discard(self)
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _leave(self) -> None:
        seen = self._current
        if seen is not None and not seen.answered and not seen.left.is_set():
            seen.left_at = time.monotonic()
            seen.left.set()

    async def _run(self) -> None:
        for step in self._upstream.greeting:
            await self._do(step, None)
        while not self.transport.is_closing():
            seen = self._current = await self._read_head()
            probes = seen.method == "GET"
            script = self._upstream.probe if probes else self._upstream.take()
            if script[:1] != (BeforeBody(),):
                await self._read_body(seen)
            (self._upstream.probes if probes else self._upstream.seen).append(seen)
            for step in script:
                await self._do(step, seen)
            seen.answered = True

    async def _read_head(self) -> Seen:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            await self._more()
        head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
        first, *fields = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        pairs = [line.partition(": ") for line in fields]
        headers = [(name.lower(), value) for name, _, value in pairs]
        return Seen(time.monotonic(), method, path, headers, self._number)

    async def _read_body(self, seen: Seen) -> None:
        length = int(seen.header("content-length") or 0)
        while len(self._buffer) < length:
            await self._more()
        seen.body, self._buffer = self._buffer[:length], self._buffer[length:]

    async def _more(self) -> None:
        self._arrived.clear()
        await self._arrived.wait()

    async def _write(self, data: bytes, seen: Seen | None) -> None:
        await self._writable.wait()
        self.transport.write(data)
        if seen is not None:
            seen.pushed += len(data)

    async def _do(self, step: Step, seen: Seen | None) -> None:
        match step:
            case Send(data):
                await self._write(data, seen)
            case Drip(data, size, gap):
                for start in range(0, len(data), size):
                    await self._write(data[start : start + size], seen)
                    await asyncio.sleep(gap)
            case Flood(piece, limit):
                for _ in range(limit // len(piece)):
                    await self._write(piece, seen)
                    await asyncio.sleep(0)
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case BeforeBody():
                pass
            case StopReading():
                self.transport.pause_reading()
            case Hold():
                await self._upstream.released.wait()
            case Silence():
                await asyncio.Event().wait()
            case HalfClose():
                self.transport.write_eof()
            case Close():
                if seen is not None:
                    seen.answered = True
                self.transport.close()
                await asyncio.Event().wait()
            case Reset():
                if seen is not None:
                    seen.answered = True
                sock = self.transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.transport.abort()
                await asyncio.Event().wait()


class Upstream:
    """A scripted engine. Open it with `scripted`."""

    def __init__(self, scripts: Sequence[Script], *, probe: Script, greeting: Script) -> None:
        self._scripts = list(scripts)
        self.probe = probe
        """How a `GET` is answered."""
        self.greeting = greeting
        """What happens on a connection before any request is read."""
        self.seen: list[Seen] = []
        """Inference requests, in the order in which they came."""
        self.probes: list[Seen] = []
        self.connections: set[_Connection] = set()
        self.accepted = 0
        self.released = asyncio.Event()
        """Ends every `Hold`."""
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def id(self) -> str:
        """What the gateway calls this replica, behind `backend@`."""
        return f"127.0.0.1:{self.port}"

    def take(self) -> Script:
        """What is done next."""
        return self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]

    async def asked(self, times: int = 1, within: float = 5.0) -> Seen:
        """Wait for the request of that number; the request."""
        async with asyncio.timeout(within):
            while len(self.seen) < times:
                await asyncio.sleep(0.002)
        return self.seen[times - 1]

    @property
    def busy(self) -> int:
        """Requests that are being answered on a connection that is open."""
        return sum(one.is_busy for one in self.connections)

    def release(self) -> None:
        """Let whoever is at a `Hold` go on, and read again where reading was stopped."""
        self.released.set()
        for connection in self.connections:
            connection.transport.resume_reading()

    def heal(self, script: Script) -> None:
        """From here on every request is answered with `script`."""
        self._scripts = [script]

    async def open(self) -> None:
        def connect() -> _Connection:
            self.accepted += 1
            return _Connection(self, self.accepted)

        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(connect, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Listen no more: new connections are refused, those that are open live on."""
        if self._server is not None:
            self._server.close()

    async def close(self) -> None:
        """Stop listening and drop every connection: from here on the port is dead."""
        if self._server is not None:
            self._server.close()
            for connection in list(self.connections):
                connection.transport.abort()
            while self.connections:
                await asyncio.sleep(0)
            self._server = None


@contextlib.asynccontextmanager
async def scripted(
    *scripts: Script, probe: Script | None = None, greeting: Script = ()
) -> AsyncIterator[Upstream]:
    """An upstream that answers with `scripts`, open as long as the block runs."""
    upstream = Upstream(scripts or [CHAT], probe=probe or MODELS, greeting=greeting)
    await upstream.open()
    try:
        yield upstream
    finally:
        await upstream.close()


# -- answers in OpenAI's shapes ------------------------------------------------------------------

ENGINE_MODEL = "engine-model"
"""What scripted engines call their model."""


def response(status: int, body: bytes, *headers: tuple[str, str], reason: str = "X") -> bytes:
    """A whole HTTP answer, with a length."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers)
    head = f"HTTP/1.1 {status} {reason}\r\n{fields}content-length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") + body


def reply(value: object, status: int = 200, *headers: tuple[str, str]) -> Script:
    """A JSON answer."""
    body = json.dumps(value).encode()
    return (Send(response(status, body, ("content-type", "application/json"), *headers)),)


def completion(text: str = "Hello", **more: object) -> dict[str, object]:
    """The body of a chat completion."""
    return {
        "id": "c-1",
        "object": "chat.completion",
        "model": ENGINE_MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
        **more,
    }


CHAT: Script = reply(completion())
MODELS: Script = (
    *reply({"data": [{"id": ENGINE_MODEL}]}, 200, ("connection", "close")),
    Close(),
)
"""The answer to a probe. It leaves no idle connection behind: each request has a fresh one, so
that a reset is never taken for a stale connection."""


def failing(status: int, message: str = "no", *headers: tuple[str, str]) -> Script:
    """An error in OpenAI's shape."""
    body = {"error": {"message": message, "type": "server_error", "param": None, "code": None}}
    return reply(body, status, *headers)


def data(value: object) -> bytes:
    """One event."""
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def event(kind: str, **fields: object) -> bytes:
    """One event of a dialect that names them: Anthropic's messages, OpenAI's responses."""
    return f"event: {kind}\n".encode() + data({"type": kind, **fields})


def chunk(delta: dict[str, object], *, index: int = 0, finish: str | None = None) -> bytes:
    """One event of a streamed chat completion."""
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return data(
        {
            "id": "c-1",
            "object": "chat.completion.chunk",
            "model": ENGINE_MODEL,
            "choices": [choice],
        }
    )


ROLE = chunk({"role": "assistant", "content": ""})
FINISH = chunk({}, finish="stop")
DONE = b"data: [DONE]\n\n"


def text(content: str, index: int = 0) -> bytes:
    return chunk({"content": content}, index=index)


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
END = b"0\r\n\r\n"


def chunked(piece: bytes) -> bytes:
    """A piece of a body in chunked coding."""
    return b"%x\r\n%s\r\n" % (len(piece), piece)


def stream(*pieces: bytes | Step, ended: bool = True) -> Script:
    """A stream of these events; steps between them are done as they come."""
    steps: list[Step] = [Send(STREAM_HEAD)]
    steps += [Send(chunked(one)) if isinstance(one, bytes) else one for one in pieces]
    if ended:
        steps.append(Send(END))
    return tuple(steps)


STORY = (ROLE, text("Once"), text(" upon"), FINISH, DONE)
"""The events of a stream that is as it should be."""

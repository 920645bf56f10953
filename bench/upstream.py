"""A mock engine that is not the bottleneck: canned answers over a bare asyncio protocol.

Run as `python -m bench.upstream PORT…`; it says `ready` when it listens, and ends on SIGTERM.
Paced streams are driven by one timer per millisecond for all of them, on a fixed schedule, so
that a late wake-up does not stretch the pace.
"""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import time
from typing import cast

import msgspec
import uvloop

from bench import wire

_TICK = 0.001
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Answers:
    """Everything that can be answered, made once."""

    def __init__(self) -> None:
        self.json = wire.json_reply()
        self.ask = msgspec.json.Decoder(wire.Ask)
        models = {"object": "list", "data": [{"id": wire.ENGINE_MODEL, "object": "model"}]}
        self.other = wire.response(msgspec.json.encode(models))
        self._streams: dict[int, list[bytes]] = {}

    def stream(self, chunks: int) -> list[bytes]:
        """The pieces of a stream of this many chunks."""
        if chunks not in self._streams:
            self._streams[chunks] = wire.stream(chunks)
        return self._streams[chunks]


class Pacer:
    """The owner of the tick that paced streams are driven by."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: dict[int, list[PacedStream]] = {}
        self._tick = 0
        self._begun = 0.0
        self._running = False

    def add(self, stream: PacedStream, delay: float) -> None:
        """Have `stream` send its next piece in `delay` seconds."""
        if not self._running:
            self._running, self._begun, self._tick = True, self._loop.time(), 0
            self._loop.call_later(_TICK, self._run)
        self._due.setdefault(self._tick + max(1, round(delay / _TICK)), []).append(stream)

    def _run(self) -> None:
        now = int((self._loop.time() - self._begun) / _TICK)
        while self._tick < now:
            self._tick += 1
            stamp = b"%019d" % time.monotonic_ns()
            for stream in self._due.pop(self._tick, ()):
                stream.send(stamp)
        self._running = bool(self._due)
        if self._running:
            self._loop.call_at(self._begun + (self._tick + 1) * _TICK, self._run)


class PacedStream:
    """One stream that sends a piece at a time."""

    __slots__ = ("_interval", "_pacer", "_pieces", "_sent", "_transport")

    def __init__(
        self, transport: asyncio.Transport, pieces: list[bytes], interval: float, pacer: Pacer
    ) -> None:
        self._transport = transport
        self._pieces = pieces
        self._interval = interval
        self._pacer = pacer
        self._sent = 0

    def send(self, stamp: bytes) -> None:
        """Send the next piece, saying when."""
        if self._transport.is_closing():
            return
        self._transport.write(self._pieces[self._sent].replace(wire.STAMP, stamp))
        self._sent += 1
        if self._sent < len(self._pieces):
            self._pacer.add(self, self._interval)


class Connection(asyncio.Protocol):
    """One client's connection: requests in, canned answers out, one at a time."""

    def __init__(self, answers: Answers, pacer: Pacer, loop: asyncio.AbstractEventLoop) -> None:
        self._answers = answers
        self._pacer = pacer
        self._loop = loop
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._buffer = self._buffer + data if self._buffer else data
        while True:
            head = self._buffer.find(b"\r\n\r\n")
            if head < 0:
                return
            length = _LENGTH.search(self._buffer, 0, head + 2)
            end = head + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < end:
                return
            whole, self._buffer = self._buffer[:end], self._buffer[end:]
            self._answer(whole, whole[head + 4 :])

    def _answer(self, whole: bytes, body: bytes) -> None:
        if not whole.startswith(b"POST /v1/chat/completions"):
            self._transport.write(self._answers.other)
            return
        plan = self._answers.ask.decode(body).bench
        if plan.chunks == 0:
            self._transport.write(self._answers.json)
            return
        self._transport.write(wire.STREAM_HEAD)
        pieces = self._answers.stream(plan.chunks)
        if plan.interval:
            paced = PacedStream(self._transport, pieces, plan.interval, self._pacer)
            self._pacer.add(paced, plan.interval)
        else:
            self._loop.call_soon(self._burst, pieces, 0)

    def _burst(self, pieces: list[bytes], sent: int) -> None:
        # One piece per turn of the loop: each is a write of its own, as an engine's is.
        if self._transport.is_closing():
            return
        self._transport.write(pieces[sent])
        if sent + 1 < len(pieces):
            self._loop.call_soon(self._burst, pieces, sent + 1)


async def serve(ports: list[int]) -> None:
    """Answer on loopback until SIGTERM."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    answers, pacer = Answers(), Pacer(loop)
    for port in ports:
        await loop.create_server(lambda: Connection(answers, pacer, loop), "127.0.0.1", port)
    print("ready", flush=True)
    await stopped.wait()


if __name__ == "__main__":
    uvloop.run(serve([int(port) for port in sys.argv[1:]]))

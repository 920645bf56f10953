"""The load generator: keep-alive connections over a bare asyncio protocol, one process.

Run as `python -m bench.load JOB`, with a `Job` as JSON; prints a `Result` as JSON. A closed
loop: each connection asks again when it has been answered, until all requests are given out.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from typing import cast

import msgspec
import uvloop

from bench import wire

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_EVENT = b"\ndata: "
_DONE = b"\ndata: [DONE]"
_LAST_CHUNK = b"\r\n0\r\n\r\n"


class Job(msgspec.Struct):
    """What to ask, and how often."""

    port: int
    key: str
    requests: int
    connections: int
    plan: wire.Plan
    timeout: float = 120.0
    """Seconds after which what is missing counts as errors."""


class Result(msgspec.Struct):
    """What came of it."""

    answered: int = 0
    chunks: int = 0
    pieces: int = 0
    """Reads that the chunks came in: fewer than chunks where they were glued together."""
    errors: int = 0
    error: str = ""
    """The first thing that went wrong."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    latencies: list[float] = []
    """Seconds: of whole JSON replies, to the first content of fast streams, and of every paced
    chunk from the engine's write to its arrival here."""


class Load:
    """The owner of what is still to be asked and of what was answered."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.request = wire.request(f"127.0.0.1:{job.port}", job.plan, job.key)
        self.result = Result()
        self.left = job.requests
        self.open = job.requests
        self.done = asyncio.Event()

    def take(self) -> bool:
        """Whether there is one more request to make."""
        self.left -= 1
        return self.left >= 0

    def finish(self, error: str = "") -> None:
        """One request is over."""
        if error:
            # A figure with errors in it is worth nothing: stop here, and say what was wrong.
            self.result.errors += 1
            self.result.error = self.result.error or error
            self.done.set()
        else:
            self.result.answered += 1
        self.open -= 1
        if self.open <= 0:
            self.done.set()


class Connection(asyncio.Protocol):
    """One keep-alive connection that asks, counts the answer and asks again."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._busy = False
        self._head_read = self._complete = False
        self._first = True
        self._tail = b""
        self._length = -1
        self._received = self._events = 0
        self._asked = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        if self._busy:
            self._busy = False
            self._load.finish(f"the connection was closed: {error or 'end of file'}")

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if not self._busy:
            return
        if not self._head_read:
            self._tail += data
            end = self._tail.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data, self._tail = self._tail[: end + 2], self._tail[end + 4 :], b"\n"
            self._read_head(head, data)
        if self._length >= 0:
            self._read_json(data)
        elif data:
            self._read_stream(data)

    def _ask(self) -> None:
        if not self._load.take():
            self._transport.close()
            return
        self._busy, self._head_read, self._tail, self._length = True, False, b"", -1
        self._received, self._events, self._first, self._complete = 0, 0, True, False
        self._asked = time.monotonic()
        self._transport.write(self._load.request)

    def _read_head(self, head: bytes, body: bytes) -> None:
        self._head_read = True
        length = _LENGTH.search(head)
        self._length = int(length[1]) if length else -1
        if not head.startswith(b"HTTP/1.1 200"):
            said = head.split(b"\r\n", 1)[0] + b" " + body[:300]
            self._fail(said.decode("latin-1"))
        elif (self._length < 0) != (self._load.job.plan.chunks > 0):
            self._fail("asked for a stream and got a whole reply, or the other way round")

    def _read_json(self, data: bytes) -> None:
        self._received += len(data)
        if self._received >= self._length and self._busy:
            self._load.result.latencies.append(time.monotonic() - self._asked)
            self._answered()

    def _read_stream(self, data: bytes) -> None:
        result, plan = self._load.result, self._load.job.plan
        result.pieces += 1
        # What may be the beginning of something that the next read completes is kept.
        data = self._tail + data
        events = data.count(_EVENT)
        self._events += events
        self._complete = self._complete or _DONE in data
        if plan.interval:
            self._read_stamp(data)
        elif self._first and events:
            self._first = False
            result.latencies.append(time.monotonic() - self._asked)
        if data.endswith(_LAST_CHUNK):
            result.chunks += self._events - 1
            if not self._complete or self._events != plan.chunks + 1:
                self._fail(f"{self._events} events, complete: {self._complete}")
                return
            self._answered()
            return
        self._tail = data[-len(_DONE) + 1 :]
        self._events -= self._tail.count(_EVENT)

    def _read_stamp(self, data: bytes) -> None:
        at = data.rfind(wire.STAMP_BEGINS) + len(wire.STAMP_BEGINS)
        stamp = data[at : at + len(wire.STAMP)]
        if len(stamp) == len(wire.STAMP) and stamp.isdigit():
            self._load.result.latencies.append((time.monotonic_ns() - int(stamp)) / 1e9)

    def _answered(self) -> None:
        self._busy = False
        self._load.finish()
        self._ask()

    def _fail(self, error: str) -> None:
        self._busy = False
        self._load.finish(error)
        self._transport.close()


async def run(job: Job) -> Result:
    """Do the job."""
    loop = asyncio.get_running_loop()
    load = Load(job)
    began, cpu = time.monotonic(), time.process_time()
    for _ in range(job.connections):
        await loop.create_connection(lambda: Connection(load), "127.0.0.1", job.port)
    try:
        async with asyncio.timeout(job.timeout):
            await load.done.wait()
    except TimeoutError:
        load.result.errors += load.open
        load.result.error = load.result.error or f"not answered within {job.timeout} s"
    load.result.seconds = time.monotonic() - began
    load.result.cpu_seconds = time.process_time() - cpu
    return load.result


if __name__ == "__main__":
    outcome = uvloop.run(run(msgspec.json.decode(sys.argv[1], type=Job)))
    sys.stdout.buffer.write(msgspec.json.encode(outcome))

"""`python -m bench.overload`: what a route is worth when more is asked of it than it can do.

An engine with a fixed number of slots, that queues whatever is beyond them, behind a real gateway.
Clients arrive at random (Poisson), at a multiple of what the slots can do, and each gives up after
its `x-gateway-timeout`. Goodput is the engine's time that went into answers which came in time, as
a share of all the time that its slots had. With the gate (`concurrency`) and without it, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from random import Random

import httpx
import msgspec

from bench.processes import free_ports, running

_ANSWER = json.dumps(
    {"object": "chat.completion", "model": "m", "choices": [{"index": 0, "message": {}}]}
).encode()


class Load(msgspec.Struct, frozen=True):
    """What is played."""

    slots: int
    service: float
    """Seconds of work in a request, on average; half as much to half as much again."""
    patience: float
    seconds: float


class SlotEngine:
    """Answers after a slot was free for as long as the work takes; a client that leaves is dropped,
    also from the queue.
    """

    def __init__(self, load: Load, rng: Random) -> None:
        self._load = load
        self._rng = rng
        self._slots = asyncio.Semaphore(load.slots)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET"):
                await self._answer(writer, 0.0)
                return
            await reader.readexactly(_length(head))
            work = asyncio.create_task(self._work())
            left = asyncio.create_task(reader.read(1))
            await asyncio.wait([work, left], return_when=asyncio.FIRST_COMPLETED)
            left.cancel()
            if work.done():
                await self._answer(writer, work.result())
            else:
                work.cancel()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _work(self) -> float:
        async with self._slots:
            took = self._load.service * self._rng.uniform(0.5, 1.5)
            await asyncio.sleep(took)
            return took

    async def _answer(self, writer: asyncio.StreamWriter, took: float) -> None:
        head = f"HTTP/1.1 200 OK\r\nconnection: close\r\nx-work: {took}\r\n"
        writer.write(f"{head}content-length: {len(_ANSWER)}\r\n\r\n".encode() + _ANSWER)
        await writer.drain()


def _length(head: bytes) -> int:
    lines = head.lower().split(b"\r\n")
    return next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))


async def _play(port: int, load: Load, times: float, rng: Random) -> tuple[float, Counter[int]]:
    """Goodput as a share of capacity, and how often each status came."""
    statuses: Counter[int] = Counter()
    worked = 0.0
    loop = asyncio.get_running_loop()
    began = loop.time()
    whole = range(ceil(load.patience), ceil(load.patience + load.seconds))
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    base = f"http://127.0.0.1:{port}"

    async def ask(client: httpx.AsyncClient) -> None:
        nonlocal worked
        body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
        headers = {"x-gateway-timeout": str(load.patience)}
        answer = await client.post("/v1/chat/completions", json=body, headers=headers)
        if int(loop.time() - began) in whole:  # neither while it fills nor while it empties
            statuses[answer.status_code] += 1
            worked += float(answer.headers.get("x-work", 0.0))

    async with httpx.AsyncClient(base_url=base, limits=limits, timeout=60) as client:
        due, last = 0.0, load.seconds + 2 * load.patience
        async with asyncio.TaskGroup() as clients:
            while (due := due + rng.expovariate(times * load.slots / load.service)) < last:
                await asyncio.sleep(began + due - loop.time())
                clients.create_task(ask(client))
    return worked / (load.slots * len(whole)), statuses


async def _bench(load: Load, loads: Sequence[float]) -> None:
    rng = Random(1)
    engine_port, *gateway_ports = free_ports(3)
    engine = await asyncio.start_server(
        SlotEngine(load, rng).serve, "127.0.0.1", engine_port, backlog=1024
    )
    print("| load | gate | goodput | 200 | 429 | 504 |\n|--:|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as directory:
        for times in loads:
            for gate, port in zip((True, False), gateway_ports, strict=True):
                path = Path(directory) / f"{gate}.yaml"
                path.write_text(_routing(engine_port, port, load.slots if gate else None))
                command = [sys.executable, "-m", "gateway", "serve", str(path)]
                async with running(command, port, output=Path(directory) / "log"):
                    goodput, statuses = await _play(port, load, times, rng)
                counts = " | ".join(str(statuses[status]) for status in (200, 429, 504))
                said = "yes" if gate else "no"
                print(f"| {times:g} | {said} | {goodput:.1%} | {counts} |", flush=True)
    engine.close()


def _routing(engine: int, port: int, places: int | None) -> str:
    model = {"backend": "slots", "retry": {"attempts": 1}}
    gated = {"concurrency": places, "queue": {"size": 1000}} if places is not None else {}
    document = {
        "server": {"port": port},
        "backends": {"slots": {"use": "openai", "replicas": [f"http://127.0.0.1:{engine}"]}},
        "models": {"m": {**model, **gated}},
        "telemetry": {"access_log": False},
    }
    return json.dumps(document)  # JSON is YAML


def main(arguments: Sequence[str] | None = None) -> int:
    """Play what is asked for and print a table; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("loads", nargs="*", type=float, default=[0.8, 1.0, 3.0])
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--service", type=float, default=1.0, help="seconds of work in a request")
    parser.add_argument("--patience", type=float, default=5.0, help="seconds a client waits")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each load is played")
    options = parser.parse_args(arguments)
    load = Load(options.slots, options.service, options.patience, options.seconds)
    asyncio.run(_bench(load, options.loads))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Rounds: the same load to the engine and through the gateway, CPU read before and after."""

from __future__ import annotations

import asyncio
import sys
import tempfile

import msgspec

from bench.cases import Case, Unit
from bench.load import Job, Result
from bench.processes import Instructions, cpu_seconds, rss_mb


class Place(msgspec.Struct, frozen=True):
    """What is asked: the engine itself, or something in front of it."""

    name: str
    port: int
    pid: int
    """Whose CPU is measured."""
    upstream_pid: int
    key: str


class Round(msgspec.Struct, frozen=True):
    """One round of load, as it was measured."""

    place: str
    units: int
    cpu_us: float
    """CPU-µs of the process at the place, per unit."""
    upstream_cpu_us: float
    load_cpu_us: float
    rss_mb: float
    instructions: float | None
    """User-space instructions per unit, where they can be counted."""
    result: Result


async def measure(case: Case, place: Place, *, instructions: bool = False) -> Round:
    """Put one round of `case` on `place`."""
    counter = Instructions(place.pid) if instructions else None
    if counter is not None:
        await counter.start()
    cpu, upstream_cpu = cpu_seconds(place.pid), cpu_seconds(place.upstream_pid)
    result = await _load(case, place)
    cpu = cpu_seconds(place.pid) - cpu
    upstream_cpu = cpu_seconds(place.upstream_pid) - upstream_cpu
    counted = await counter.stop() if counter is not None else None
    units = max(1, result.chunks if case.unit is Unit.CHUNK else result.answered)
    return Round(
        place=place.name,
        units=units,
        cpu_us=cpu / units * 1e6,
        upstream_cpu_us=upstream_cpu / units * 1e6,
        load_cpu_us=result.cpu_seconds / units * 1e6,
        rss_mb=rss_mb(place.pid),
        instructions=None if counted is None else counted / units,
        result=result,
    )


async def _load(case: Case, place: Place) -> Result:
    job = Job(
        port=place.port,
        key=place.key,
        requests=case.requests,
        connections=case.connections,
        plan=case.plan,
    )
    # A file and not a pipe: the figures of a long round do not fit into one.
    with tempfile.TemporaryFile() as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.load",
            msgspec.json.encode(job).decode(),
            stdout=output,
        )
        if await process.wait():
            raise RuntimeError(f"the load generator ended with code {process.returncode}")
        output.seek(0)
        return msgspec.json.decode(output.read(), type=Result)

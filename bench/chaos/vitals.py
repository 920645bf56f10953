"""What the gateway holds: memory, files, threads, processes, and requests in flight."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import httpx
import msgspec

from bench.processes import rss_mb

_IN_FLIGHT = re.compile(r"^\w*(?:active|outstanding|in_flight)\w*(?:\{.*\})? (\S+)$", re.MULTILINE)
_ATTEMPTS = re.compile(
    r'^gateway_attempts_total\{.*gateway_attempt_cause="(\w+)".*\} (\S+)$', re.MULTILINE
)
_FAILOVERS = re.compile(r"^gateway_failovers_total\{.*\} (\S+)$", re.MULTILINE)
_READY = re.compile(r'^gateway_replica_ready\{.*gateway_replica="([^"]+)".*\} (\S+)$', re.MULTILINE)


class Vitals(msgspec.Struct, frozen=True):
    """At one moment."""

    rss_mb: float
    files: int
    threads: int
    processes: int
    """Below it: the engines that it starts, and what holds them."""
    in_flight: float

    def grown(self, before: Vitals, *, mb: float) -> list[str]:
        """What is more than it was, beyond what a settled gateway may differ by."""
        bounds = {"rss_mb": mb, "files": 4, "threads": 4, "processes": 0, "in_flight": 0}
        return [
            f"{name}: {getattr(before, name):g} → {getattr(self, name):g}"
            for name, bound in bounds.items()
            if getattr(self, name) > getattr(before, name) + bound
        ]


async def vitals(pid: int, client: httpx.AsyncClient) -> Vitals:
    """Of the gateway with this process id."""
    return _vitals(pid, (await client.get("/metrics")).text)


def _vitals(pid: int, page: str) -> Vitals:
    return Vitals(
        rss_mb=rss_mb(pid),
        files=len(list(Path(f"/proc/{pid}/fd").iterdir())),
        threads=len(list(Path(f"/proc/{pid}/task").iterdir())),
        processes=len(below(pid)),
        in_flight=sum(float(value) for value in _IN_FLIGHT.findall(page)),
    )


async def attempts(client: httpx.AsyncClient) -> Counter[str]:
    """How attempts have ended so far, by their cause; and how often another one went on."""
    page = (await client.get("/metrics")).text
    counts: Counter[str] = Counter()
    for cause, number in _ATTEMPTS.findall(page):
        counts[cause] += int(float(number))
    counts["went on elsewhere"] = sum(int(float(number)) for number in _FAILOVERS.findall(page))
    return counts


async def ready_replicas(client: httpx.AsyncClient) -> int:
    """How many replicas the gateway finds ready."""
    page = (await client.get("/metrics")).text
    return sum(float(value) == 1 for _, value in _READY.findall(page))


def below(pid: int) -> list[int]:
    """The processes below one, nearest first; of a process that is gone, none."""
    found: list[int] = []
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(one) for task in tasks for one in _children(task)]
    except OSError:
        return found
    for child in children:
        found += [child, *below(child)]
    return found


def _children(task: Path) -> list[str]:
    return (task / "children").read_text().split()

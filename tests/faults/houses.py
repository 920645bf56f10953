"""A gateway whose first engine is at fault, alone or not; and what must be true afterwards."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.faults.clients import Dialect
from tests.faults.outcomes import BACKOFF
from tests.faults.table.row import Fault
from tests.support.inprocess import Running, serving
from tests.support.upstream import ENGINE_MODEL, Hold, Script, Upstream, scripted, stream

Kind = Literal["one", "two", "fallback", "both"]
"""The last is two replicas, and both are at fault."""
KINDS: tuple[Kind, ...] = ("one", "two", "fallback")
"""The houses of the table."""
SOON = 10.0
"""Seconds that a very busy machine may take for what happens at once."""
SHORT = 0.4
"""Seconds of the one timeout that a fault runs into: so long may a sound engine take, too."""
SHORT_FOR_MEGABYTES = 2.0
"""The same where the request takes a while to be sent."""
TOTAL = 15.0


@dataclass
class House:
    """What runs."""

    gateway: Running
    bad: Upstream
    others: list[Upstream]
    before: int
    """How many tasks there were before anybody asked."""
    path: str
    """Where its engines are asked."""


@contextlib.asynccontextmanager
async def house(
    kind: Kind, directory: Path, dialect: Dialect, fault: Fault, *, streamed: bool
) -> AsyncIterator[House]:
    """`tale` is on the engine at fault; so is `aside`, for others who ask at the same time.

    The engine's first script is the bystander's, who is in the middle of a sound stream
    while the fault happens.
    """
    scripts: list[Script] = [bystander(dialect), *fault.does(dialect.speech)]
    async with contextlib.AsyncExitStack() as stack:
        bad = await stack.enter_async_context(scripted(*scripts))
        others = []
        if kind == "both":
            others = [await stack.enter_async_context(scripted(*fault.does(dialect.speech)))]
        elif kind != "one":
            others = [await stack.enter_async_context(scripted(dialect.sound(streamed)))]
        document = routing(kind, bad, others, dialect, fault)
        gateway = await stack.enter_async_context(serving(directory, document))
        await _all_ready(gateway)
        yield House(gateway, bad, others, task_count(), dialect.speech.path)


async def _all_ready(gateway: Running) -> None:
    """On a very busy machine the first look at a sound engine may take too long; the next does not.

    Whoever is not ready is passed over, and the requests come to others than the table has it.
    """
    async with asyncio.timeout(SOON):
        while not all(one.readiness.ready for one in gateway.gateway._state.snapshot.replicas):
            await asyncio.sleep(0.01)


def bystander(dialect: Dialect) -> Script:
    speech = dialect.speech
    return stream(*speech.begun, Hold(), speech.say(" upon"), *speech.ending)


def routing(
    kind: Kind, bad: Upstream, others: list[Upstream], dialect: Dialect, fault: Fault
) -> dict[str, Any]:
    def backend(*upstreams: Upstream) -> dict[str, Any]:
        return {
            "use": "openai",
            "replicas": [one.url for one in upstreams],
            "model": ENGINE_MODEL,
            "without": list(dialect.without),
        }

    short = f"{SHORT_FOR_MEGABYTES if fault.padding else SHORT}s"
    timeouts = {"first_token": "10s", "idle": "10s", "total": f"{TOTAL}s"}
    if fault.waits == "total":
        timeouts = {"total": short}
    elif fault.waits is not None:
        timeouts[fault.waits] = short
    # Round robin begins with the second replica.
    replicas = [bad] if kind in ("one", "fallback") else [*others, bad]
    tale = {
        "backend": "engine",
        "balance": "round_robin",
        "retry": {"attempts": 3, "backoff": f"{BACKOFF}s", "max_backoff": "8s"},
        "timeouts": timeouts,
    }
    aside = {"backend": "engine", "balance": "round_robin", "retry": {"attempts": 2}}
    document: dict[str, Any] = {
        "backends": {"engine": backend(*replicas)},
        "models": {"tale": tale, "aside": aside},
        "telemetry": {"access_log": False},
    }
    if kind == "fallback":
        document["backends"]["spare"] = backend(*others)
        document["models"]["tale"] = {**tale, "fallback": ["plan-b"]}
        document["models"]["plan-b"] = {"backend": "spare"}
    return document


async def settled(gateway: Running, *engines: Upstream) -> None:
    """Nothing is in flight any more, as far as the gateway tells and its engines see."""
    async with asyncio.timeout(SOON):
        while await _in_flight(gateway) or any(one.busy for one in engines):
            await asyncio.sleep(0.01)


async def _in_flight(gateway: Running) -> list[str]:
    page = (await gateway.client.get("/metrics")).text
    lines = [
        line
        for line in page.splitlines()
        if not line.startswith("#")
        and ("active" in line or "outstanding" in line or "in_flight" in line)
    ]
    assert lines, "no such metric"
    return [line for line in lines if not line.endswith((" 0.0", " 0"))]


async def no_tasks_left(before: int) -> None:
    """What the gateway began for a request has ended with it; `before` it there were so many."""
    for _ in range(200):
        if task_count() <= before:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"tasks left behind: {asyncio.all_tasks()}")


def task_count() -> int:
    """Tasks that run now, but for the scripted engines' own."""
    return sum("upstream" not in repr(task) for task in asyncio.all_tasks())

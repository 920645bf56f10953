"""All checks on one replica, one after the other, so that none disturbs another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from backends.capabilities import Capability
from gateway.conform.asking import Target
from gateway.conform.cancelling import DEPARTURES, leave
from gateway.conform.finding import Finding, Outcome
from gateway.conform.probes import makes_text, try_capability
from gateway.conform.promises import EMBEDS, PROMISES, hold

_LOOK_EVERY = 0.25


async def until_ready(target: Target, within: float) -> Finding:
    """Wait until the replica may take traffic, for `within` seconds."""
    deadline = asyncio.get_running_loop().time() + within
    while not (said := await target.backend.probe(target.address)).ready:
        if asyncio.get_running_loop().time() >= deadline:
            return Finding(target.name, "ready", Outcome.BROKEN, said.reason)
        await asyncio.sleep(_LOOK_EVERY)
    adapter = target.adapter
    if adapter is not None and not target.backend.has_adapter(target.address, adapter):
        return Finding(target.name, "ready", Outcome.BROKEN, f"it lacks adapter {adapter.name}")
    return Finding(target.name, "ready", Outcome.KEPT)


async def examine(target: Target) -> AsyncIterator[Finding]:
    """Each finding as it is made."""
    answers = await makes_text(target)
    for capability in Capability:
        yield await try_capability(target, capability, answers=answers)
    for promise in PROMISES if answers else (EMBEDS,):
        yield await hold(target, promise)
    for departure in DEPARTURES if answers else ():
        yield await leave(target, departure)

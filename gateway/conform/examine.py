"""All checks on one replica, one after the other, so that none disturbs another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from backends.base import BackendError
from backends.capabilities import Capability
from gateway.conform.asking import Target, awake
from gateway.conform.cancelling import DEPARTURES, leave
from gateway.conform.finding import Finding, Outcome
from gateway.conform.probes import makes_text, try_capability
from gateway.conform.promises import EMBEDS, PROMISES, hold

READY = "ready"
"""The name of the check that comes before all others."""
_LOOK_EVERY = 0.25


async def until_ready(target: Target, within: float) -> Finding:
    """Wait until the replica answers, for `within` seconds. One that sleeps is woken."""
    if target.start_failure:
        return Finding(target.name, READY, Outcome.BROKEN, target.start_failure)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while (reason := await _why_not_ready(target, deadline - loop.time())) is not None:
        if loop.time() >= deadline:
            return Finding(target.name, READY, Outcome.BROKEN, reason)
        await asyncio.sleep(_LOOK_EVERY)
    adapter = target.adapter
    if adapter is not None and not target.backend.has_adapter(target.address, adapter):
        why = f": {target.adapter_fault}" if target.adapter_fault else ""
        lacks = f"it lacks the adapter {adapter.name!r}{why}"
        return Finding(target.name, READY, Outcome.BROKEN, lacks)
    return Finding(target.name, READY, Outcome.KEPT)


async def _why_not_ready(target: Target, within: float) -> str | None:
    said = await target.backend.probe(target.address)
    if not said.ready:
        return said.reason
    try:
        async with asyncio.timeout(within):
            await awake(target)
    except TimeoutError:
        return (await target.backend.probe(target.address)).reason or "it is not ready in time"
    except BackendError as error:
        return error.message
    return None


async def examine(target: Target) -> AsyncIterator[Finding]:
    """Each finding as it is made."""
    answers = await makes_text(target)
    for capability in Capability:
        yield await try_capability(target, capability, answers=answers)
    for promise in PROMISES if answers else (EMBEDS,):
        yield await hold(target, promise)
    for departure in DEPARTURES if answers else ():
        yield await leave(target, departure)

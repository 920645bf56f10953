"""The kinds of load: what is asked, how often, and what its unit of cost is."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from bench.wire import Plan


class Unit(StrEnum):
    """What the CPU is divided by."""

    REQUEST = "request"
    CHUNK = "chunk"


class Case(msgspec.Struct, frozen=True):
    """One kind of load."""

    name: str
    title: str
    plan: Plan
    unit: Unit
    requests: int
    """In one round."""
    connections: int
    target: float | None = None
    """CPU-µs per unit that the gateway shall stay below, on the machine that FACTS are from."""


CASES = (
    Case(
        name="json",
        title="one JSON reply",
        plan=Plan(),
        unit=Unit.REQUEST,
        requests=8000,
        connections=32,
        target=160,
    ),
    Case(
        name="stream-fast",
        title="one 64-chunk stream, upstream fast",
        plan=Plan(chunks=64),
        unit=Unit.REQUEST,
        requests=1500,
        connections=32,
    ),
    Case(
        name="paced",
        title="one chunk, 300 streams, 20 ms apart",
        plan=Plan(chunks=150, interval=0.02),
        unit=Unit.CHUNK,
        requests=300,
        connections=300,
        target=45,
    ),
)


def scaled(case: Case, factor: float) -> Case:
    """`case` with more or less load in a round: longer paced streams, more of the others."""
    if case.plan.interval:
        chunks = max(10, round(case.plan.chunks * factor))
        return msgspec.structs.replace(case, plan=Plan(chunks=chunks, interval=case.plan.interval))
    return msgspec.structs.replace(case, requests=max(100, round(case.requests * factor)))

"""Policies take turns, slice by slice, so that whatever else the machine does falls on all of them.

Ratios are taken round by round. Caches are warm: what is asked first is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from statistics import median

import msgspec

from bench.balancing.real.load import (
    SHARED,
    UNSHARED,
    Load,
    Round,
    ask_by_the_clock,
    ask_in_turn,
    bodies,
)
from bench.balancing.real.servers import Engines, Place, places
from bench.balancing.targets import LEAST, POLICY, SPREADING
from bench.columns import aligned
from bench.throughput.questions import Body

POLICIES = (SPREADING, LEAST, POLICY)
SUSTAINED = 0.8
"""The open loop's rate, as a share of what round robin answers in the closed one."""
WARM_UP = 3
"""Requests for each prefix that do not count."""
SLICES = 4
"""In which a round is asked, the policies taking turns."""


class Line(msgspec.Struct, frozen=True):
    """One policy over all rounds of a load: medians."""

    load: str
    policy: str
    per_second: float
    """Answers, in the closed loop."""
    per_cpu_second: float
    """Answers by the CPU that the engines used: what a machine that does nothing else reaches."""
    ratio: float
    """Of answers a second, to round robin's of the same round."""
    cpu_ratio: float
    """The same, of answers by CPU."""
    cached: float
    """The share of prompt tokens that engines had in their caches."""
    p50_ms: float
    p95_ms: float
    """To the first token, in the open loop."""
    sooner: float
    """How many times lower that is at p95 than round robin's of the same round."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line."""
    parser.add_argument("--engines", type=int, default=4, help="llama-servers for each policy")
    parser.add_argument("--slots", type=int, default=4, help="prompts that each remembers")
    parser.add_argument("--clients", type=int, default=8, help="at a time, in the closed loop")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Compare, and print; 0, because a busy machine proves nothing."""
    lines = asyncio.run(_compare(options))
    print(msgspec.json.encode(lines).decode() if options.json else table(lines))
    return 0


async def _compare(options: argparse.Namespace) -> list[Line]:
    lines: list[Line] = []
    engines = Engines(options.engines, options.slots)
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as directory:
        async with places(Path(directory), engines, POLICIES) as found:
            for load in (SHARED, UNSHARED):
                for place in found.values():
                    first = bodies(load, place.model, WARM_UP * load.prefixes, "warm-up")
                    await ask_in_turn(place.port, first, options.clients)
                rounds = [
                    await _round(found, load, options.clients, number)
                    for number in range(options.rounds)
                ]
                lines += [_line(load, policy, rounds) for policy in POLICIES]
    return lines


async def _round(
    found: Mapping[str, Place], load: Load, clients: int, number: int
) -> dict[str, Round]:
    """All policies, first as fast as it goes, then all at the same rate and the same times."""
    rounds = {policy: Round() for policy in POLICIES}
    asked = {
        policy: bodies(load, place.model, 2 * load.requests, f"round {number}")
        for policy, place in found.items()
    }
    for policy, part in _turns(asked, load.requests):
        await _as_fast_as_it_goes(found[policy], part, clients, rounds[policy])
    rate = SUSTAINED * rounds[SPREADING].answers / rounds[SPREADING].seconds
    print(f"{load.name} {number + 1}: now {rate:.1f} a second", file=sys.stderr)
    for policy, part in _turns(asked, load.requests, offset=load.requests):
        rng = Random(number * len(asked[policy]) + len(rounds[policy].waits))
        replies = await ask_by_the_clock(found[policy].port, part, rate, rng)
        rounds[policy].note(replies)
        rounds[policy].waits += [reply.first for reply in replies]
    return rounds


def _turns(
    asked: Mapping[str, Sequence[Body]], requests: int, offset: int = 0
) -> Iterator[tuple[str, Sequence[Body]]]:
    """The policies in turns, every other time backwards, each with its next slice."""
    size = requests // SLICES
    for number in range(SLICES):
        begin = offset + number * size
        for policy in POLICIES if number % 2 else POLICIES[::-1]:
            yield policy, asked[policy][begin : begin + size]


async def _as_fast_as_it_goes(
    place: Place, asked: Sequence[Body], clients: int, into: Round
) -> None:
    began, cpu = time.perf_counter(), place.cpu_seconds()
    replies = await ask_in_turn(place.port, asked, clients)
    into.seconds += time.perf_counter() - began
    into.cpu += place.cpu_seconds() - cpu
    into.answers += len(replies)
    into.note(replies)


def _line(load: Load, policy: str, rounds: Sequence[Mapping[str, Round]]) -> Line:
    ours = [each[policy] for each in rounds]
    pairs = [(each[policy], each[SPREADING]) for each in rounds]
    return Line(
        load=load.name,
        policy=policy,
        per_second=median(one.answers / one.seconds for one in ours),
        per_cpu_second=median(one.answers / one.cpu for one in ours),
        ratio=median(other.seconds / one.seconds for one, other in pairs),
        cpu_ratio=median(other.cpu / one.cpu for one, other in pairs),
        cached=median(one.cached_tokens / one.prompt_tokens for one in ours),
        p50_ms=median(one.wait(0.5) for one in ours) * 1000,
        p95_ms=median(one.wait(0.95) for one in ours) * 1000,
        sooner=median(other.wait(0.95) / one.wait(0.95) for one, other in pairs),
    )


_HEAD = (
    "load",
    "policy",
    "answers/s",
    "ratio",
    "answers/CPU-s",
    "ratio",
    "cached",
    "TTFT p50 / p95 ms",
    "p95 sooner",
)


def table(lines: Sequence[Line]) -> str:
    """Lines for people to read."""
    rows = [
        (
            line.load,
            line.policy,
            f"{line.per_second:.2f}",
            f"{line.ratio:.2f}",
            f"{line.per_cpu_second:.2f}",
            f"{line.cpu_ratio:.2f}",
            f"{line.cached:.0%}",
            f"{line.p50_ms:.0f} / {line.p95_ms:.0f}",
            f"{line.sooner:.2f}",
        )
        for line in lines
    ]
    return aligned([_HEAD, *rows])

"""`python -m bench.throughput`: mlx_lm.server and the gateway, in turns; a table out.

Exits with 1 where the greedy case does not keep to the targets.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.processes import cpu_seconds, main_thread_cpu_seconds
from bench.throughput.client import Round, ask_all
from bench.throughput.places import MODEL, Place, places
from bench.throughput.questions import Case, Conversation, conversations
from bench.throughput.report import Line, Used, missed, summarize, table

_WARM_UP = -1
"""The round that is not counted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for and print it; the exit code."""
    options = _parser().parse_args(arguments)
    lines = asyncio.run(_bench(options))
    print(msgspec.json.encode(lines).decode() if options.json else table(lines))
    greedy = [line for line in lines if line.case == Case.GREEDY]
    failed = missed(greedy) if greedy else []
    for line in failed:
        print(line, file=sys.stderr)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.throughput", description=__doc__)
    parser.add_argument("cases", nargs="*", type=Case, help="greedy, mixed, chat; all by default")
    parser.add_argument("--model", type=Path, default=MODEL, help="a directory that MLX loads")
    parser.add_argument("--concurrency", type=int, default=8, help="conversations at a time")
    parser.add_argument("--conversations", type=int, default=16, help="in one round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--isolation", nargs="+", default=["thread", "process"], choices=["thread", "process"]
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


async def _bench(options: argparse.Namespace) -> list[Line]:
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as directory:
        running = places(Path(directory), options.model, options.concurrency, options.isolation)
        async with running as found:
            for case in options.cases or list(Case):
                lines += await _measure(case, found, options)
    return lines


async def _measure(case: Case, found: Sequence[Place], options: argparse.Namespace) -> list[Line]:
    """Rounds of one case, the places taking turns so that a busy machine is busy for all."""
    rounds: dict[str, list[Round]] = {place.name: [] for place in found}
    used = {place.name: Used() for place in found}
    for place in found:
        await _ask(place, conversations(case, options.concurrency, _WARM_UP))
    for number in range(options.rounds):
        asked = conversations(case, options.conversations, number)
        # Every other round backwards: what gets slower gets slower for all.
        for place in found if number % 2 else found[::-1]:
            print(f"{case} {number + 1}/{options.rounds} {place.name}", file=sys.stderr)
            total, main = cpu_seconds(place.pid, children=True), main_thread_cpu_seconds(place.pid)
            rounds[place.name].append(await _ask(place, asked))
            used[place.name].total += cpu_seconds(place.pid, children=True) - total
            used[place.name].main += main_thread_cpu_seconds(place.pid) - main
    first, alone = rounds[found[0].name], rounds[found[-1].name]
    return [
        summarize(
            case,
            place.name,
            rounds[place.name],
            first,
            alone,
            used[place.name],
            single_loop=place.single_loop,
        )
        for place in found
    ]


async def _ask(place: Place, asked: Sequence[Conversation]) -> Round:
    """One at a time takes long: then a part of them is enough to tell how fast it goes."""
    if place.concurrency == 1:
        asked = asked[: max(1, len(asked) // 4)]
    return await ask_all(place.port, place.model, asked, place.concurrency)


if __name__ == "__main__":
    sys.exit(main())

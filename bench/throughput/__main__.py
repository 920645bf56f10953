"""`python -m bench.throughput`: mlx_lm.server and the gateway, in turns; a table out."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.processes import cpu_seconds
from bench.throughput.client import Round, ask_all
from bench.throughput.places import MODEL, Place, places
from bench.throughput.questions import Case, questions
from bench.throughput.report import Line, summarize, table


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for and print it; the exit code."""
    options = _parser().parse_args(arguments)
    lines = asyncio.run(_bench(options))
    print(msgspec.json.encode(lines).decode() if options.json else table(lines))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.throughput", description=__doc__)
    parser.add_argument("cases", nargs="*", type=Case, help="greedy, seeded, chat; all by default")
    parser.add_argument("--model", type=Path, default=MODEL, help="a directory that MLX loads")
    parser.add_argument("--concurrency", type=int, default=8, help="conversations at a time")
    parser.add_argument("--conversations", type=int, default=24, help="in one round")
    parser.add_argument("--max-tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
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
    asked = questions(case, options.conversations, options.max_tokens)
    rounds: dict[str, list[Round]] = {place.name: [] for place in found}
    used = dict.fromkeys(rounds, 0.0)
    for place in found:
        await ask_all(place.port, place.model, asked[: place.concurrency], place.concurrency)
    for number in range(options.rounds):
        for place in found:
            print(f"{case} {number + 1}/{options.rounds} {place.name}", file=sys.stderr)
            before = cpu_seconds(place.pid)
            rounds[place.name].append(
                await ask_all(place.port, place.model, asked, place.concurrency)
            )
            used[place.name] += cpu_seconds(place.pid) - before
    first = rounds[found[0].name]
    return [
        summarize(case, place.name, rounds[place.name], first, used[place.name]) for place in found
    ]


if __name__ == "__main__":
    sys.exit(main())

"""`python -m bench.chaos`: exit code 1 where an answer was dishonest, or the gateway has grown."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import SystemRandom

from bench.chaos.house import ENGINES, OWN
from bench.chaos.report import tell
from bench.chaos.run import chaos
from bench.chaos.schedule import schedule


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it and print what came out; the exit code."""
    options = _parser().parse_args(arguments)
    seed = SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    deeds = schedule(seed, options.seconds, engines=ENGINES, own=OWN, gap=options.gap)
    print(f"seed {seed}: {len(deeds)} deeds in {options.seconds:g} s", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="gateway-chaos-") as scratch:
        directory = Path(scratch) if options.keep is None else options.keep
        directory.mkdir(parents=True, exist_ok=True)
        result = asyncio.run(
            chaos(
                directory,
                deeds,
                options.seconds,
                clients=options.clients,
                warm_up=options.warm_up,
            )
        )
    return tell(result, seed, grow_mb=options.grow_mb)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, help="plays a run again; drawn where not given")
    parser.add_argument("--gap", type=float, default=1.5, help="seconds between two deeds")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--warm-up", type=float, default=20, help="seconds of load before")
    parser.add_argument("--grow-mb", type=float, default=48, help="memory that is no growth yet")
    parser.add_argument("--keep", type=Path, help="a directory for the logs")
    return parser


if __name__ == "__main__":
    sys.exit(main())

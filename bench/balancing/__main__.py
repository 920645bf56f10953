"""`python -m bench.balancing`: arguments in, tables out.

Exits with 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

import msgspec

from bench.balancing.figures import Figures
from bench.balancing.report import Line, Report, table
from bench.balancing.scenarios import SCENARIOS, Scenario, Stage
from bench.balancing.sustained import highest_sustained
from bench.balancing.targets import SPREADING, Target, targets
from gateway.policies import POLICIES


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked for and print it; the exit code."""
    options = _parser().parse_args(arguments)
    return simulate(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.balancing", description=__doc__)
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("scenarios", nargs="*", choices=[*names, []], help="all by default")
    parser.add_argument("--policies", nargs="+", choices=sorted(POLICIES), default=sorted(POLICIES))
    parser.add_argument("--seeds", type=int, default=2, help="traces of each kind")
    parser.add_argument("--scale", type=float, default=1.0, help="longer or shorter traces")
    parser.add_argument("--tolerance", type=float, default=0.02, help="of the sustained rate")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def simulate(options: argparse.Namespace) -> int:
    """Play what is asked for; 1 where a target is missed."""
    report = Report([], [])
    for scenario in SCENARIOS:
        if scenario.name in (options.scenarios or [each.name for each in SCENARIOS]):
            lines, found = _play(scenario, options)
            report.lines.extend(lines)
            report.targets.extend(found)
    print(msgspec.json.encode(report).decode() if options.json else table(report))
    return 0 if all(target.kept for target in report.targets) else 1


def _play(scenario: Scenario, options: argparse.Namespace) -> tuple[list[Line], Sequence[Target]]:
    stage = Stage(scenario, options.seeds, options.scale)

    def play(policy: str, rate: float) -> Figures:
        return stage.play(POLICIES[policy], rate)

    highest: dict[str, Figures] = {}
    for name in options.policies:
        print(f"{scenario.name}: {name}", file=sys.stderr)
        highest[name] = highest_sustained(partial(play, name), scenario.guess, options.tolerance)
    reference = highest.get(SPREADING) or next(iter(highest.values()))
    lines = [
        Line(scenario.name, name, found, play(name, reference.rate))
        for name, found in highest.items()
    ]
    return lines, targets(scenario.name, highest, play)


if __name__ == "__main__":
    sys.exit(main())

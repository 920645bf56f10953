"""Every policy on every scenario: what it sustains, how all fare at one load, and the targets."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from functools import partial

import msgspec

from bench.balancing.engine import Machine
from bench.balancing.figures import Figures
from bench.balancing.report import Line, Report, table
from bench.balancing.scenarios import SCENARIOS, Scenario, Stage
from bench.balancing.sustained import highest_sustained
from bench.balancing.targets import SPREADING, Target, targets
from gateway.policies import POLICIES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line."""
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("scenarios", nargs="*", choices=[*names, []], help="all by default")
    parser.add_argument("--policies", nargs="+", choices=sorted(POLICIES), default=sorted(POLICIES))
    parser.add_argument("--seeds", type=int, default=2, help="traces of each kind")
    parser.add_argument("--scale", type=float, default=1.0, help="longer or shorter traces")
    parser.add_argument("--tolerance", type=float, default=0.02, help="of the sustained rate")
    parser.add_argument("--unchunked", action="store_true", help="engines without chunked prefill")
    parser.add_argument("--kv-tokens", type=int, default=Machine().kv_tokens, help="of an engine")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Play what is asked for and print it; 1 where a target is missed."""
    report = Report([], [])
    for scenario in SCENARIOS:
        if scenario.name in (options.scenarios or [each.name for each in SCENARIOS]):
            altered = scenario.on(chunked=not options.unchunked, kv_tokens=options.kv_tokens)
            stage = Stage(altered, options.seeds, options.scale)
            gc.freeze()  # a trace is large, and stays
            lines, found = play_all(stage, options.policies, options.tolerance)
            report.lines.extend(lines)
            report.targets.extend(found)
    print(msgspec.json.encode(report).decode() if options.json else table(report))
    return 0 if all(target.kept for target in report.targets) else 1


def play_all(
    stage: Stage, policies: Sequence[str], tolerance: float
) -> tuple[list[Line], Sequence[Target]]:
    """The lines and targets of one scenario."""
    scenario: Scenario = stage.scenario

    def play(policy: str, rate: float) -> Figures:
        return stage.play(POLICIES[policy], rate)

    highest: dict[str, Figures] = {}
    for name in policies:
        print(f"{scenario.name}: {name}", file=sys.stderr)
        highest[name] = highest_sustained(partial(play, name), scenario.guess, tolerance)
    reference = highest.get(SPREADING) or next(iter(highest.values()))
    lines = [
        Line(scenario.name, name, found, play(name, reference.rate))
        for name, found in highest.items()
    ]
    return lines, targets(scenario.name, highest, play)

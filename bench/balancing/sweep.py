"""One parameter of `prefix_affinity` at a time, the others as they are: is its default good?"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from bench.balancing.figures import Figures
from bench.balancing.fleet import Prompts
from bench.balancing.scenarios import SCENARIOS, Scenario, Stage
from bench.balancing.sustained import highest_sustained
from bench.columns import aligned
from gateway.policies import Policy
from gateway.policies.prefix_affinity import NO_ROOM, REQUEST, STICKINESS, PrefixAffinity
from gateway.policies.prefix_blocks import BOUNDARIES, FIRST, LIMIT, PER_DOUBLING, boundaries
from gateway.policies.prefix_memory import BLOCKS
from gateway.policies.saturation import FULL, LONG_QUEUE, is_saturated

_SCENARIOS = ("shared_prefixes", "conversations", "mixed_lengths", "three_gateways")
_NEVER = 1_000_000


class Setting(NamedTuple):
    """A policy, and where the blocks end that it is given."""

    policy: Callable[[], Policy]
    ends: Sequence[int] = BOUNDARIES


class Parameter(NamedTuple):
    """What is varied."""

    default: float | None
    values: tuple[float, ...]
    setting: Callable[[float], Setting]


def _stickiness(value: float) -> Setting:
    return Setting(partial(PrefixAffinity, stickiness=value))


def _request(value: float) -> Setting:
    return Setting(partial(PrefixAffinity, request=value))


def _no_room(value: float) -> Setting:
    return Setting(partial(PrefixAffinity, no_room=value))


def _blocks(value: float) -> Setting:
    return Setting(partial(PrefixAffinity, blocks=int(value)))


def _long_queue(value: float) -> Setting:
    mark = partial(is_saturated, long_queue=int(value))
    return Setting(partial(PrefixAffinity, saturated=mark))


def _full(value: float) -> Setting:
    return Setting(partial(PrefixAffinity, saturated=partial(is_saturated, full=value)))


def _ends(ends: Sequence[int]) -> Setting:
    return Setting(partial(PrefixAffinity, ends=ends), ends)


def _first(value: float) -> Setting:
    return _ends(boundaries(first=int(value)))


def _per_doubling(value: float) -> Setting:
    return _ends(boundaries(per_doubling=int(value)))


def _fixed_block(value: float) -> Setting:
    return _ends(range(int(value), LIMIT + 1, int(value)))


def _parameter(
    default: float, others: Sequence[float], setting: Callable[[float], Setting]
) -> Parameter:
    return Parameter(default, tuple(sorted({default, *others})), setting)


PARAMETERS: Mapping[str, Parameter] = {
    "stickiness": _parameter(STICKINESS, (0, 0.5, 1, 2, 4, 8, 32), _stickiness),
    "request": _parameter(REQUEST, (0, 64, 256, 1024, 4096), _request),
    "no_room": _parameter(NO_ROOM, (0, 1024, 4096, 8192, 16384, 65536), _no_room),
    "blocks": _parameter(BLOCKS, (256, 1024, 4096, 16384, 65536), _blocks),
    "first": _parameter(FIRST, (64, 256, 1024, 4096), _first),
    "per_doubling": _parameter(PER_DOUBLING, (4, 16, 64, 256), _per_doubling),
    "fixed_block": Parameter(None, (256, 1024, 4096, 16384), _fixed_block),
    "long_queue": _parameter(LONG_QUEUE, (1, 2, 5, 10, 50, _NEVER), _long_queue),
    "full": _parameter(FULL, (0.5, 0.7, 0.8, 0.9, 0.95, 2.0), _full),
}
"""By name. `fixed_block` has blocks of one size, in bytes, in place of those that grow."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line."""
    parser.add_argument("parameters", nargs="*", choices=[*PARAMETERS, []], help="all by default")
    parser.add_argument("--scenarios", nargs="+", default=list(_SCENARIOS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--scale", type=float, default=0.5)
    parser.add_argument("--tolerance", type=float, default=0.03)
    parser.add_argument("--json", action="store_true", help="print JSON")


class Row(msgspec.Struct, frozen=True):
    """One value on one scenario."""

    scenario: str
    parameter: str
    value: float
    default: bool
    highest: Figures
    at_default: Figures
    """At three quarters of what the default sustains."""


def run(options: argparse.Namespace) -> int:
    """Vary, and print."""
    rows: list[Row] = []
    for scenario in SCENARIOS:
        if scenario.name in options.scenarios:
            rows += _sweep(scenario, options)
    print(msgspec.json.encode(rows).decode() if options.json else table(rows))
    return 0


def _sweep(scenario: Scenario, options: argparse.Namespace) -> list[Row]:
    stage = Stage(scenario, options.seeds, options.scale)
    gc.freeze()  # a trace is large, and stays
    default = highest_sustained(
        partial(stage.play, PrefixAffinity), scenario.guess, options.tolerance
    )
    rows = []
    for name in options.parameters or PARAMETERS:
        parameter = PARAMETERS[name]
        for value in parameter.values:
            setting = parameter.setting(value)
            known = setting.ends is BOUNDARIES
            varied = stage if known else stage.hashed_by(Prompts(setting.ends))
            play = partial(varied.play, setting.policy)
            row = Row(
                scenario.name,
                name,
                value,
                value == parameter.default,
                highest_sustained(play, default.rate, options.tolerance),
                play(0.75 * default.rate),
            )
            rows.append(row)
    return rows


_HEAD = ("scenario", "parameter", "value", "sustained/s", "TTFT p50 / p95 ms", "cached")


def table(rows: Sequence[Row]) -> str:
    """Rows for people to read: the waits and hits are those at one rate for all."""
    found = [
        (
            row.scenario,
            row.parameter,
            ("never" if row.value >= _NEVER else f"{row.value:g}") + (" *" if row.default else ""),
            f"{row.highest.rate:.2f}",
            f"{row.at_default.ttft_p50 * 1000:.0f} / {row.at_default.ttft_p95 * 1000:.0f}",
            f"{row.at_default.hit_rate:.0%}",
        )
        for row in rows
    ]
    return aligned([_HEAD, *found])

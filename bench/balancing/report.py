"""Tables of figures for people to read."""

from __future__ import annotations

import msgspec

from bench.balancing.figures import Figures
from bench.balancing.targets import Target
from bench.columns import aligned


class Line(msgspec.Struct, frozen=True):
    """One policy on one scenario."""

    scenario: str
    policy: str
    highest: Figures
    """At the highest load that it sustains."""
    common: Figures
    """At the load that all are compared at: the highest that round robin sustains."""


class Report(msgspec.Struct, frozen=True):
    """A whole run."""

    lines: list[Line]
    targets: list[Target]


_HEAD = (
    "scenario",
    "policy",
    "sustained/s",
    "tokens/s",
    "at/s",
    "TTFT p50 / p95 / p99 ms",
    "token p95 ms",
    "cached",
    "imbalance",
)


def table(report: Report) -> str:
    """Policies by scenario: what they sustain, and all at the same load."""
    rows = [_row(line) for line in report.lines]
    text = aligned([_HEAD, *rows])
    judged = [
        (
            target.scenario,
            target.what,
            f"{target.found:.2f}",
            f"{'at least' if target.at_least else 'at most'} {target.wanted}",
            "" if target.kept else "MISSED",
        )
        for target in report.targets
    ]
    return f"{text}\n\n{aligned(judged)}" if judged else text


def _row(line: Line) -> tuple[str, ...]:
    at = line.common
    waits = " / ".join(f"{wait * 1000:.0f}" for wait in (at.ttft_p50, at.ttft_p95, at.ttft_p99))
    return (
        line.scenario,
        line.policy,
        f"{line.highest.rate:.2f}",
        f"{line.highest.tokens_per_second:.0f}",
        f"{at.rate:.2f}",
        waits,
        f"{at.token_p95 * 1000:.0f}",
        f"{at.hit_rate:.0%}",
        f"{at.imbalance:.2f}",
    )

"""What `prefix_affinity` shall reach beside the other policies, in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from bench.balancing.figures import Figures

POLICY, SPREADING, LEAST = "prefix_affinity", "round_robin", "least_outstanding"
SHARED = ("shared_prefixes",)
UNSHARED = ("unshared", "mixed_lengths")

THROUGHPUT = 1.5
"""Of round robin's sustained rate, at least, where prompts share long prefixes."""
SOONER = 3.0
"""How many times lower TTFT is at p95, at the highest load that round robin sustains."""
WORSE = 1.03
"""Of what least_outstanding reaches, at most, where nothing is shared."""
LOADS = (0.5, 0.75, 0.9, 1.0)
"""Shares of least_outstanding's sustained rate at which its TTFT is compared."""


class Target(msgspec.Struct, frozen=True):
    """One figure that shall be reached."""

    scenario: str
    what: str
    found: float
    wanted: float
    at_least: bool
    """Else at most."""

    @property
    def kept(self) -> bool:
        return self.found >= self.wanted if self.at_least else self.found <= self.wanted


Play = Callable[[str, float], Figures]
"""A policy by its name, at a rate."""


def targets(scenario: str, highest: Mapping[str, Figures], play: Play) -> Sequence[Target]:
    """Those of a scenario, where all policies that they are about were played."""
    if not {POLICY, SPREADING, LEAST} <= highest.keys():
        return ()
    if scenario in SHARED:
        return _of_shared(scenario, highest, play)
    if scenario in UNSHARED:
        return _of_unshared(scenario, highest, play)
    return ()


def _of_shared(scenario: str, highest: Mapping[str, Figures], play: Play) -> list[Target]:
    theirs = highest[SPREADING]
    ours = play(POLICY, theirs.rate)
    throughput = highest[POLICY].rate / theirs.rate
    sooner = theirs.ttft_p95 / ours.ttft_p95
    return [
        Target(scenario, f"sustained, by {SPREADING}'s", throughput, THROUGHPUT, at_least=True),
        Target(scenario, f"TTFT p95 at {SPREADING}'s highest", sooner, SOONER, at_least=True),
    ]


def _of_unshared(scenario: str, highest: Mapping[str, Figures], play: Play) -> list[Target]:
    theirs = highest[LEAST]
    throughput = theirs.rate / highest[POLICY].rate
    found = [Target(scenario, f"{LEAST}'s sustained, by it", throughput, WORSE, at_least=False)]
    for load in LOADS:
        ours, other = (play(name, load * theirs.rate) for name in (POLICY, LEAST))
        for quantile in ("ttft_p50", "ttft_p95"):
            ratio = getattr(ours, quantile) / getattr(other, quantile)
            what = f"{quantile} at {load:.0%} of {LEAST}'s highest, by its"
            found.append(Target(scenario, what, ratio, WORSE, at_least=False))
    return found

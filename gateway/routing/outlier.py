"""Which replicas do so much worse than their peers that they are better left alone. Pure.

Success rate and failure percentage are Envoy's; the time to the first token is compared likewise,
by medians, because one long prompt says nothing. A comparison takes a minimum of hosts and of
requests: what is seen of fewer is no evidence. Where Envoy looks at one interval alone, here one
with few requests is judged by as many intervals as it takes, and its peers by the same ones: what
befell all of them is nobody's fault.
Source: Envoy, `envoy.config.cluster.v3.OutlierDetection` and "Outlier detection" in its manual.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from statistics import fmean, median, pstdev
from typing import NamedTuple, TypeVar

from backends.options import OutlierDetection
from gateway.routing.tally import TIMES, Counts, Tally, looked_back

K = TypeVar("K", bound=Hashable)

SLOWER_BY = 1.0
"""Seconds by which a median must be longer than that of the others, whatever the factor."""
FEW_TOKENS = 100
"""As many to be computed, or fewer, are no difference: a chat template alone may have them."""
_ROUNDING = 1e-9


class Outlier(NamedTuple):
    """Why one is worse than its peers, and by how much: the larger, the worse."""

    reason: str
    excess: float


def find_outliers(
    tallies: Mapping[K, Tally], by: OutlierDetection, weights: Mapping[K, float] | None = None
) -> dict[K, Outlier]:
    """Those that are much worse than the others, the worst first.

    `weights`: how much each can take relative to the others; 1 where it is not said.
    """
    slower = partial(_slower, by=by, weights=weights or {})
    volume = min(by.latency_request_volume, TIMES)
    found = _compare(
        tallies, by, lambda one: len(one.first_tokens) >= volume, by.latency_minimum_hosts, slower
    )
    found |= _compare(
        tallies,
        by,
        lambda one: one.requests >= by.success_rate_request_volume,
        by.success_rate_minimum_hosts,
        partial(_succeeding_less, by=by),
    )
    found |= _compare(
        tallies,
        by,
        lambda one: one.requests >= by.failure_percentage_request_volume,
        by.failure_percentage_minimum_hosts,
        partial(_failing_more, by=by),
    )
    return dict(sorted(found.items(), key=lambda item: item[1].excess, reverse=True))


def may_eject(replicas: int, ejected: int, max_ejection_percent: float) -> bool:
    """Whether one more of `replicas` may be ejected, of which `ejected` are already."""
    if max_ejection_percent == 0:
        return False
    return ejected < max(1, int(replicas * max_ejection_percent / 100))


def _compare(
    tallies: Mapping[K, Tally],
    by: OutlierDetection,
    enough: Callable[[Counts], bool],
    minimum_hosts: int,
    outliers: Callable[[Mapping[K, Counts]], dict[K, Outlier]],
) -> dict[K, Outlier]:
    """Judge each once, by the fewest latest intervals that tell `enough` of it and its peers."""
    found: dict[K, Outlier] = {}
    judged: set[K] = set()
    for intervals in range(1, looked_back(by.interval) + 1):
        latest = {one: tally.latest(intervals) for one, tally in tallies.items()}
        told = {one: counts for one, counts in latest.items() if enough(counts)}
        due = told.keys() - judged
        if due and len(told) >= minimum_hosts:
            judged |= due
            found |= {one: outlier for one, outlier in outliers(told).items() if one in due}
        if len(judged) == len(tallies):
            break
    return found


def _succeeding_less(counts: Mapping[K, Counts], by: OutlierDetection) -> dict[K, Outlier]:
    if not by.success_rate_stdev_factor:
        return {}
    rates = {one: its.successes / its.requests for one, its in counts.items()}
    mean = fmean(rates.values())
    least = mean - pstdev(rates.values()) * by.success_rate_stdev_factor / 1000
    return {
        one: Outlier(f"{rate:.0%} of its requests succeed, {mean:.0%} of all", mean - rate)
        for one, rate in rates.items()
        if least - rate > _ROUNDING
    }


def _failing_more(counts: Mapping[K, Counts], by: OutlierDetection) -> dict[K, Outlier]:
    shares = {one: 100 * its.failures / its.requests for one, its in counts.items()}
    threshold = by.failure_percentage_threshold
    if not threshold or min(shares.values()) >= threshold:
        return {}  # it is not this replica, and elsewhere it would be no better
    return {
        one: Outlier(f"{share:.0f} % of its requests fail", share / 100)
        for one, share in shares.items()
        if share >= threshold
    }


class _Pace(NamedTuple):
    """The medians of one replica's times to the first token, and what it can take."""

    seconds: float
    tokens: float
    """To be computed for it."""
    weight: float

    def expected_by(self, peer: _Pace) -> float:
        """Seconds that this one may take, going by `peer`: as much longer as it has more to
        compute, and is said to be slower. Who is said to be faster is not held to it.
        """
        return peer.seconds * max(1, self.tokens / peer.tokens) * max(1, peer.weight / self.weight)


def _slower(
    counts: Mapping[K, Counts], by: OutlierDetection, weights: Mapping[K, float]
) -> dict[K, Outlier]:
    if not by.latency_factor:
        return {}
    paces = {
        one: _Pace(
            median(time.seconds for time in its.first_tokens),
            median(max(FEW_TOKENS, time.tokens) for time in its.first_tokens),
            weights.get(one, 1.0),
        )
        for one, its in counts.items()
    }
    found = {}
    for one, pace in paces.items():
        expected = median(pace.expected_by(other) for peer, other in paces.items() if peer != one)
        if pace.seconds > expected * by.latency_factor and pace.seconds - expected > SLOWER_BY:
            reason = f"takes {pace.seconds:.2g} s to the first token, others would {expected:.2g} s"
            found[one] = Outlier(reason, 1 - expected / pace.seconds)
    return found

"""Which replicas do so much worse than their peers that they are better left alone. Pure.

Success rate and failure percentage are Envoy's; the time to the first token is compared likewise,
by medians, because one long prompt says nothing. A comparison takes a minimum of hosts and of
requests: what is seen of fewer is no evidence.
Source: Envoy, `envoy.config.cluster.v3.OutlierDetection` and "Outlier detection" in its manual.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from statistics import fmean, median, pstdev
from typing import NamedTuple, TypeVar

from backends.options import OutlierDetection

K = TypeVar("K", bound=Hashable)

SLOWER_BY = 1.0
"""Seconds by which a median must be longer than that of the others, whatever the factor."""
_ROUNDING = 1e-9
_TIMES = 256
"""Times to the first token of one interval that are kept: the latest."""


class Tally:
    """How the requests of one replica went, since it was last cleared."""

    __slots__ = ("failures", "first_tokens", "successes")

    def __init__(self) -> None:
        self.successes = 0
        self.failures = 0
        self.first_tokens: deque[float] = deque(maxlen=_TIMES)
        """Seconds."""

    @property
    def requests(self) -> int:
        return self.successes + self.failures

    def clear(self) -> None:
        """Begin a new interval."""
        self.successes = self.failures = 0
        self.first_tokens.clear()


class Outlier(NamedTuple):
    """Why one is worse than its peers, and by how much: the larger, the worse."""

    reason: str
    excess: float


def find_outliers(tallies: Mapping[K, Tally], by: OutlierDetection) -> dict[K, Outlier]:
    """Those that are much worse than the others, the worst first."""
    found = _by_latency(tallies, by) | _by_success_rate(tallies, by)
    found |= _by_failure_percentage(tallies, by)
    return dict(sorted(found.items(), key=lambda item: item[1].excess, reverse=True))


def may_eject(replicas: int, ejected: int, max_ejection_percent: float) -> bool:
    """Whether one more of `replicas` may be ejected, of which `ejected` are already."""
    if max_ejection_percent == 0:
        return False
    return ejected < max(1, int(replicas * max_ejection_percent / 100))


def _by_success_rate(tallies: Mapping[K, Tally], by: OutlierDetection) -> dict[K, Outlier]:
    rates = {
        one: tally.successes / tally.requests
        for one, tally in tallies.items()
        if tally.requests >= by.success_rate_request_volume
    }
    if not by.success_rate_stdev_factor or len(rates) < by.success_rate_minimum_hosts:
        return {}
    mean = fmean(rates.values())
    least = mean - pstdev(rates.values()) * by.success_rate_stdev_factor / 1000
    return {
        one: Outlier(f"{rate:.0%} of its requests succeed, {mean:.0%} of all", mean - rate)
        for one, rate in rates.items()
        if least - rate > _ROUNDING
    }


def _by_failure_percentage(tallies: Mapping[K, Tally], by: OutlierDetection) -> dict[K, Outlier]:
    shares = {
        one: 100 * tally.failures / tally.requests
        for one, tally in tallies.items()
        if tally.requests >= by.failure_percentage_request_volume
    }
    threshold = by.failure_percentage_threshold
    if not threshold or len(shares) < by.failure_percentage_minimum_hosts:
        return {}
    if min(shares.values()) >= threshold:
        return {}  # it is not this replica, and elsewhere it would be no better
    return {
        one: Outlier(f"{share:.0f} % of its requests fail", share / 100)
        for one, share in shares.items()
        if share >= threshold
    }


def _by_latency(tallies: Mapping[K, Tally], by: OutlierDetection) -> dict[K, Outlier]:
    medians = {
        one: median(tally.first_tokens)
        for one, tally in tallies.items()
        if len(tally.first_tokens) >= min(by.latency_request_volume, _TIMES)
    }
    if not by.latency_factor or len(medians) < by.latency_minimum_hosts:
        return {}
    found = {}
    for one, seconds in medians.items():
        others = median(other for peer, other in medians.items() if peer != one)
        if seconds > others * by.latency_factor and seconds - others > SLOWER_BY:
            reason = f"takes {seconds:.1f} s to the first token, others {others:.1f} s"
            found[one] = Outlier(reason, 1 - others / seconds)
    return found

"""Which of some replicas to choose among: those that may take traffic, else the likeliest. Pure.

There is no panic threshold as Envoy has it, below which health is overlooked while some replicas
are still healthy: what a probe finds dead would fail requests, and too many ejections at once
are `max_ejection_percent`'s to prevent.
"""

from __future__ import annotations

from collections.abc import Sequence

from backends.readiness import Condition
from gateway.routing.replica import Replica

_LIKELIHOOD = (
    Condition.READY,
    Condition.EJECTED,
    Condition.DRAINING,
    Condition.RATE_LIMITED,
    Condition.UNHEALTHY,
    Condition.LOADING,
    Condition.MISCONFIGURED,
)
"""The likeliest to answer first. What is ejected answers its probes, and may answer a request; what
is misconfigured will not before somebody has mended it."""


def best_of(replicas: Sequence[Replica], now: float) -> Sequence[Replica]:
    """Those that may take traffic. Where none may, one is asked all the same, because the probe
    may be wrong and a refusal helps nobody: those in the likeliest condition, and of them, where
    it is known when they can be asked again, those that can the soonest.
    """
    if len(replicas) < 2:
        return replicas
    healthy = [one for one in replicas if one.may_take_traffic(now)]
    if healthy:
        return healthy
    ranks = [(_LIKELIHOOD.index(one.condition(now)), one.available_at(now)) for one in replicas]
    best = min(ranks)
    return [one for one, rank in zip(replicas, ranks, strict=True) if rank == best]

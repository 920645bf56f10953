"""Any of several replicas, each as likely as its weight says. What policies break ties with."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from gateway.policies.base import C


def choose_by_weight(candidates: Sequence[C], now: float, rng: Random) -> C:
    """One of `candidates`, of which there is at least one."""
    if len(candidates) == 1:
        return candidates[0]
    weights = [one.weight(now) for one in candidates]
    point = rng.random() * sum(weights)
    for one, weight in zip(candidates, weights, strict=True):
        point -= weight
        if point < 0:
            return one
    return candidates[-1]  # by rounding at most

"""Which replicas of a variant are asked next, and how long one is left alone before. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from backends.readiness import Condition
from gateway.config import structs
from gateway.dispatch.hedge import Tried
from gateway.routing.best import best_of
from gateway.routing.replica import Replica


def candidates_for(
    replicas: Sequence[Replica], tried: Sequence[Tried], longest_wait: float, now: float
) -> Sequence[Replica]:
    """Whom to ask next: those not tried yet, the healthy ones first.

    Where none is healthy the best one is tried anyway: see `best_of`. But no retry goes to one that
    is known to refuse the gateway: its refusal would hide why the others failed. Where all have
    been tried, those that may be asked again, and did not ask to be left alone for more than
    `longest_wait` seconds; the healthy ones first here as well, so that the last attempt does not
    go to one that is dead beside one that lost a connection.
    """
    if not tried:
        return best_of(replicas, now)
    done = [one.replica for one in tried]
    fresh = [
        replica
        for replica in replicas
        if replica not in done and replica.condition(now) is not Condition.MISCONFIGURED
    ]
    if fresh:
        return best_of(fresh, now)
    latest = {one.replica: one.failure for one in tried}
    again = [
        replica
        for replica, failure in latest.items()
        if not failure.leave_replica and (failure.retry_after or 0.0) <= longest_wait
    ]
    return best_of(again, now)


def wait_before(
    replica: Replica, retry: structs.Retry, tried: Sequence[Tried], rng: Random
) -> float:
    """Seconds to wait before asking `replica`.

    Another replica is asked at once. The same one gets time to recover: a random part of a span
    that doubles (M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015), no
    less than `backoff` and no less than its own `Retry-After`.
    """
    before = [one for one in tried if one.replica is replica]
    if not before:
        return 0.0
    span = min(retry.backoff * 2 ** len(before), retry.max_backoff)
    wanted = before[-1].failure.retry_after or 0.0
    return max(wanted, rng.uniform(retry.backoff, span))

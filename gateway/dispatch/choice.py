"""Choose the replica for the next attempt: what a policy asks of a request is made here, once.

A variant with a single replica asks no policy, and nothing is made for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from gateway.dispatch.ask import Ask
from gateway.policies import RequestView
from gateway.policies.base import BYTES_PER_TOKEN
from gateway.routing.replica import Replica
from gateway.routing.table import Variant


class Choice(NamedTuple):
    """A replica, and about how much of the prompt it will have to compute."""

    replica: Replica
    tokens: int
    """Those to be computed."""
    known: int = 0
    """Those that it has probably computed before."""


def choose(
    variant: Variant,
    candidates: Sequence[Replica],
    ask: Ask,
    *,
    session: Callable[[], bytes],
    now: float,
    rng: Random,
) -> Choice:
    """One of `candidates`, replicas of `variant`, of which there is at least one."""
    if len(variant.replicas) == 1:
        return Choice(candidates[0], len(ask.body) // BYTES_PER_TOKEN)
    view = RequestView(now, ask.prefix, session)
    replica = variant.policy.pick(candidates, view, rng)
    size = len(ask.body) if ask.hashed is None else ask.hashed.size
    known = min(view.known, size) // BYTES_PER_TOKEN
    return Choice(replica, size // BYTES_PER_TOKEN - known, known)

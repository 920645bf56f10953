"""Choose the replica for the next attempt: what a policy asks of a request is made here, once.

A variant with a single replica asks no policy, and nothing is made for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from gateway.dispatch.ask import Ask
from gateway.policies import RequestView
from gateway.routing.replica import Replica
from gateway.routing.table import Variant

BYTES_PER_TOKEN = 4
"""Of a request's body, as a rule of thumb for English; only ratios between loads matter."""


class Choice(NamedTuple):
    """A replica, and about how many tokens of the prompt it will have to compute."""

    replica: Replica
    tokens: int


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
    size = len(ask.body)
    if len(variant.replicas) == 1:
        return Choice(candidates[0], size // BYTES_PER_TOKEN)
    view = RequestView(now, ask.prefix, session)
    replica = variant.policy.pick(candidates, view, rng)
    return Choice(replica, max(0, size - view.known) // BYTES_PER_TOKEN)

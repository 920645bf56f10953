"""What belongs together stays on one replica, unless that one has more than its share by far.

Consistent hashing with bounded loads: a session has an order of replicas of its own, and goes to
the first of them that has less than `FACTOR` times its share of all attempts. The order is that
of rendezvous hashing, so a replica that comes or goes moves only the sessions it gains or loses.

Source: V. Mirrokni, M. Thorup, M. Zadimoghaddam, "Consistent Hashing with Bounded Loads"
(SODA 2018, arXiv:1608.01350).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from math import ceil
from random import Random
from typing import ClassVar

from gateway.policies.base import C, RequestView
from gateway.policies.rendezvous import distance

FACTOR = 1.25
"""How much more than its share a replica may have; the paper's 1 + ε."""
FLOOR = 4
"""Attempts that are never too many: an engine answers a few together as fast as one."""


class Session:
    """Remembers nothing, so that several gateways agree."""

    wants_demand: ClassVar[bool] = False

    def pick(self, candidates: Sequence[C], request: RequestView, rng: Random) -> C:  # noqa: ARG002 (chance has no part in it)
        if len(candidates) == 1:
            return candidates[0]
        session = blake2b(request.session(), digest_size=16).digest()
        weights = [one.weight(request.now) for one in candidates]
        share = (sum(one.outstanding for one in candidates) + 1) / sum(weights)
        order = sorted(
            (distance(_point(session, one.id), weight), at)
            for at, (one, weight) in enumerate(zip(candidates, weights, strict=True))
        )
        for _, at in order:
            if candidates[at].outstanding < max(FLOOR, ceil(FACTOR * share * weights[at])):
                return candidates[at]
        # The bounds add up to more than there is, so this is reached by rounding at most.
        return candidates[order[0][1]]


def _point(session: bytes, replica: str) -> bytes:
    return blake2b(session + replica.encode(), digest_size=8).digest()

"""One replica after the other, the heavier ones more often, and never in a row if it can be helped.

Smooth weighted round robin: each pick credits every candidate with its weight, and charges the
one with the most credit for the whole round. Of weights 5, 1, 1 comes a a c a b a a.
Source: nginx, `ngx_http_upstream_get_peer` (I. Sysoev, nginx 1.3.1, 2012).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from random import Random
from typing import ClassVar

from gateway.policies.base import C, RequestView
from gateway.policies.memory import forget_absent


class RoundRobin:
    """Keeps a credit per replica; one that is away takes no part, and loses nothing."""

    wants_demand: ClassVar[bool] = False

    def __init__(self) -> None:
        self._credits: dict[str, float] = {}

    def pick(self, candidates: Sequence[C], request: RequestView, rng: Random) -> C:  # noqa: ARG002 (chance has no part in it)
        if len(candidates) == 1:
            return candidates[0]
        earned = self._credits
        forget_absent(earned, candidates)
        best, most, whole = candidates[0], -inf, 0.0
        for one in candidates:
            weight = one.weight(request.now)
            whole += weight
            credit = earned.get(one.id, 0.0) + weight
            earned[one.id] = credit
            if credit >= most:
                best, most = one, credit
        earned[best.id] -= whole
        return best

"""The replica with the fewest attempts under way, for its weight; among equals, any."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import ClassVar

from gateway.policies.base import C, RequestView
from gateway.policies.by_weight import choose_by_weight


class LeastOutstanding:
    """Ties are broken at random: a fixed order would send every quiet moment to the first."""

    wants_demand: ClassVar[bool] = False

    def pick(self, candidates: Sequence[C], request: RequestView, rng: Random) -> C:
        if len(candidates) == 1:
            return candidates[0]
        loads = [one.outstanding / one.weight(request.now) for one in candidates]
        fewest = min(loads)
        tied = [one for one, load in zip(candidates, loads, strict=True) if load == fewest]
        return choose_by_weight(tied, request.now, rng)

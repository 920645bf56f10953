"""The replica with the fewest attempts under way; among equals, any."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from gateway.policies.base import C


class LeastOutstanding:
    """Ties are broken at random: a fixed order would send every quiet moment to the first."""

    def pick(self, candidates: Sequence[C], rng: Random) -> C:
        if len(candidates) == 1:
            return candidates[0]
        fewest = min(candidate.outstanding for candidate in candidates)
        return rng.choice([c for c in candidates if c.outstanding == fewest])

"""One replica after the other."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from gateway.policies.base import C


class RoundRobin:
    """Counts its picks; where a candidate drops out the turn passes to the next."""

    def __init__(self) -> None:
        self._turn = 0

    def pick(self, candidates: Sequence[C], rng: Random) -> C:  # noqa: ARG002 (chance has no part in it)
        self._turn += 1
        return candidates[self._turn % len(candidates)]

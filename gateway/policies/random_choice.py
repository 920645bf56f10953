"""Any replica, each as likely as the next."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from gateway.policies.base import C


class RandomChoice:
    """Needs no memory and no agreement between gateways."""

    def pick(self, candidates: Sequence[C], rng: Random) -> C:
        return rng.choice(candidates)

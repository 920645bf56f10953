"""Any replica, each as likely as its weight says."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import ClassVar

from gateway.policies.base import C, RequestView
from gateway.policies.by_weight import choose_by_weight


class RandomChoice:
    """Needs no memory and no agreement between gateways."""

    wants_demand: ClassVar[bool] = False

    def pick(self, candidates: Sequence[C], request: RequestView, rng: Random) -> C:
        return choose_by_weight(candidates, request.now, rng)

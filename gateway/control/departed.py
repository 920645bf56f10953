"""Replicas that are in no table any more: those that still have requests, and who may come back.

One that comes back under its id goes on with its counters. Requests keep what they began with, so a
replica leaves the metrics when the last of them is over. Bounded, but for those with requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from backends.readiness import Condition, Readiness
from gateway.routing.replica import Replica

REMEMBERED = 64
"""Replicas without a request that are kept, in case that they come back."""


class Departed:
    """Owned by `Engines`."""

    def __init__(self) -> None:
        self._replicas: dict[str, Replica] = {}
        """In the order in which they left."""

    @property
    def draining(self) -> list[Replica]:
        """Those with requests."""
        return [one for one in self._replicas.values() if one.outstanding]

    def let_go(self, before: Mapping[str, Replica], now: Iterable[Replica]) -> None:
        """Of those of `before`, keep who is not among those of `now`."""
        staying = {one.id for one in now}
        for name, replica in before.items():
            if name not in staying:
                replica.leaving = True
                self._replicas[name] = replica
        idle = [name for name, one in self._replicas.items() if not one.outstanding]
        for name in idle[: max(0, len(idle) - REMEMBERED)]:
            del self._replicas[name]

    def take_back(self, name: str) -> Replica | None:
        """The replica called so, if it is known: to be looked at before it is asked."""
        replica = self._replicas.pop(name, None)
        if replica is not None:
            replica.leaving = False
            replica.observe(Readiness(False, "back, and not probed yet", Condition.LOADING))
        return replica

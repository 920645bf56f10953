"""Who goes on with an answer that broke off, and when: the best there are, given a moment to come.

Pure: the time is passed in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from gateway.dispatch.failover_rules import CannotGoOnError, Way
from gateway.dispatch.verdict import Failure
from gateway.routing.replica import Replica
from gateway.routing.table import Route, Variant

_FULL_PATIENCE = 3
"""Failures after which a replica is left alone for all of the patience; each one less halves it."""


class Place(NamedTuple):
    """Where an answer may be made."""

    route: Route
    variant: Variant


def says_the_same(one: Variant, other: Variant) -> bool:
    """Whether, by what the configuration says, both are made of the same weights."""
    adapters = [
        None if variant.adapter is None else variant.adapter.name for variant in (one, other)
    ]
    return one.checkpoint == other.checkpoint and adapters[0] == adapters[1]


class Failed(NamedTuple):
    """How a replica has failed this answer, the last time that it did."""

    failure: Failure
    times: int
    at: float
    """Monotonic seconds."""


class Rank(IntEnum):
    """Who is to go on with an answer: the lower, the better."""

    HEALTHY = 0
    """It may take traffic, and has not failed this answer."""
    DIVERGED = 1
    """It may, and has said something else when it was asked again."""
    BACK = 2
    """It has failed, and may take traffic again, or has not been noticed yet."""
    SAME = 3
    """The same, and it is the one that failed last."""
    DOWN = 4
    """It seems to be down; that may be wrong."""
    NEVER = 5
    """There is no way for it to go on; or it was silent on this answer, and nothing says that it is
    back."""


class Search(NamedTuple):
    """Who may go on with an answer, and since when somebody has been looked for."""

    places: Sequence[Place]
    ways: Mapping[Replica, Way]
    """How each one would go on that may."""
    failed: Mapping[Replica, Failed]
    diverged: Collection[Replica]
    """Who has said something else."""
    broke: Replica
    """The one that failed last."""
    began: float
    patience: float
    """Seconds for which at most somebody better is waited for."""

    def at(self, now: float) -> tuple[Place, Sequence[Replica]] | None:
        """Whom to ask now, and where: the first place with the best there are. None to wait.

        Raises `CannotGoOnError` where there is nobody to wait for.
        """
        best, found = Rank.NEVER, None
        hope = False
        for place in self.places:
            ranks = {one: self._rank(one, now) for one in place.variant.able()}
            hope = hope or any(rank is not Rank.NEVER for rank in ranks.values())
            due = [one for one, rank in ranks.items() if self._due(one, rank) <= now]
            rank = min((ranks[one] for one in due), default=Rank.NEVER)
            if rank < best:
                best, found = rank, (place, [one for one in due if ranks[one] is rank])
        if not hope:
            raise CannotGoOnError("there is nobody else to ask")
        return found

    def without(self, gate: str) -> Search:
        """The same, but for the places behind that gate."""
        return self._replace(places=[one for one in self.places if one.route.gate != gate])

    def _rank(self, replica: Replica, now: float) -> Rank:
        if replica not in self.ways:
            return Rank.NEVER
        healthy = replica.may_take_traffic(now)
        failed = self.failed.get(replica)
        if failed is None:
            up = Rank.DIVERGED if replica in self.diverged else Rank.HEALTHY
            return up if healthy else Rank.DOWN
        if healthy and replica is not self.broke:
            return Rank.BACK
        if failed.failure.leave_replica:
            return Rank.NEVER
        return Rank.SAME if healthy else Rank.DOWN

    def _due(self, replica: Replica, rank: Rank) -> float:
        """From when on it may be asked: who has failed gets time to recover, each time more."""
        if rank in (Rank.HEALTHY, Rank.DIVERGED):
            return 0.0
        if rank in (Rank.BACK, Rank.SAME):
            _, times, at = self.failed[replica]
            return at + self.patience * 0.5 ** max(0, _FULL_PATIENCE - times)
        return self.began + self.patience

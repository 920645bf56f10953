"""Watch over the conditions of the replicas: eject outliers, and tell each change once.

A condition can change by itself, when a wait is over. So it is looked at, and not told of.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from backends.readiness import Condition
from gateway.control.state import State
from gateway.routing.ejection import Comparison
from gateway.routing.replica import Replica

logger = logging.getLogger(__name__)

TICK = 0.25
"""Seconds between two looks."""


class ConditionMonitor:
    """Looks at the replicas of the current snapshot; asks no engine anything."""

    def __init__(
        self, state: State, *, tick: float = TICK, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._state = state
        self._tick = tick
        self._clock = clock
        self._comparisons: dict[str, Comparison] = {}
        """By backend."""
        self._told: dict[str, Condition] = {}
        """The last word on each replica, by its id."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(self._tick)

    def look(self) -> None:
        """Once."""
        now = self._clock()
        replicas = self._state.snapshot.replicas
        self._compare(replicas, now)
        told = {}
        for replica in replicas:
            condition = replica.condition(now)
            told[replica.id] = condition
            if condition is not self._told.get(replica.id):
                _tell(replica, condition, now)
        self._told = told

    def _compare(self, replicas: tuple[Replica, ...], now: float) -> None:
        backends: dict[str, list[Replica]] = {}
        for replica in replicas:
            backends.setdefault(replica.backend_name, []).append(replica)
        self._comparisons = {
            name: self._comparisons.get(name) or Comparison(now) for name in backends
        }
        for name, group in backends.items():
            self._comparisons[name].tick(group, now)


def _tell(replica: Replica, condition: Condition, now: float) -> None:
    if condition is Condition.READY:
        logger.info("%s: ready", replica.id)
        return
    level = logging.INFO if condition is Condition.LOADING else logging.WARNING
    why = replica.why_not(now)
    logger.log(level, "%s: %s: %s", replica.id, condition, why.removeprefix(f"{condition}: "))

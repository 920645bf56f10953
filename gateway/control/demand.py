"""Asking engines what is asked of them, for policies that go by it.

Rules of this file:

- Only replicas between which such a policy chooses are asked: one request to each at a time, and
  each with a deadline.
- An engine that does not say is asked less and less often. Its silence harms nobody: what it said
  last grows old, and is then unknown.
"""

from __future__ import annotations

import asyncio
import logging
import time

from gateway.control.state import Snapshot, State
from gateway.routing.replica import Replica

logger = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between two questions to a replica: several fit into what counts as fresh."""
TIMEOUT = 2.0
"""Seconds that it may take to answer."""
LONGEST = 30.0
"""Seconds between two questions to one that has not answered for long."""


class DemandMonitor:
    """Asks the replicas of the current snapshot, again and again."""

    def __init__(
        self, state: State, *, interval: float = INTERVAL, timeout: float = TIMEOUT
    ) -> None:
        self._state = state
        self._interval = interval
        self._timeout = timeout
        self._asked: dict[Replica, _Asked] = {}

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as questions:
            while True:
                wanted = wants_demand(self._state.snapshot)
                self._asked = {one: self._asked.get(one) or _Asked() for one in wanted}
                for replica, asked in self._asked.items():
                    if asked.due <= time.monotonic() and not asked.waiting:
                        asked.waiting = True
                        questions.create_task(self._ask(replica, asked))
                await asyncio.sleep(self._interval)

    async def _ask(self, replica: Replica, asked: _Asked) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                demand = await replica.backend.demand(replica.address)
        except TimeoutError:
            demand = None
        except Exception:
            logger.exception("asking %s what is asked of it hit a bug", replica.id)
            demand = None
        finally:
            asked.waiting = False
        now = time.monotonic()
        if demand is None:
            asked.wait = min(max(asked.wait * 2, self._interval), LONGEST)
        else:
            asked.wait = 0.0
            replica.load.heard(now, demand)
        asked.due = now + asked.wait


class _Asked:
    """One replica, as far as asking it goes."""

    __slots__ = ("due", "wait", "waiting")

    def __init__(self) -> None:
        self.due = 0.0
        """When it may be asked again, in monotonic seconds."""
        self.wait = 0.0
        """For how long it is left alone, because it did not say."""
        self.waiting = False


def wants_demand(snapshot: Snapshot) -> frozenset[Replica]:
    """The replicas between which a policy chooses that goes by what engines say."""
    return frozenset(
        replica
        for route in snapshot.table.routes
        for variant in route.variants
        if variant.policy.wants_demand and len(variant.replicas) > 1
        for replica in variant.replicas
    )

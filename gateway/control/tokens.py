"""Ask replicas that have answered nobody for a while for one token.

Rules of this file:

- Requests are the better witnesses: while they are answered nobody is asked, so a replica at work
  pays nothing and keeps its cache. What is asked is in no count and in no metric of clients.
- One question to a replica at a time, with a deadline, and none to one that is not ready.
- A replica that makes no token gets no requests until it has made one, for whomever. Nobody is held
  to that who is not asked any more, because a reload has changed that: it could never clear itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from backends.options import Health, HttpOptions
from gateway.control.state import Snapshot, State
from gateway.routing.replica import Replica

logger = logging.getLogger(__name__)

TICK = 1.0
"""Seconds between two looks for who is to be asked."""
AGAIN = 5.0
"""Seconds after which one that made none is asked again."""


class TokenMonitor:
    """Looks at the replicas of the current snapshot, again and again."""

    def __init__(
        self, state: State, *, tick: float = TICK, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._state = state
        self._tick = tick
        self._clock = clock
        self._asked_at: dict[Replica, float] = {}
        """When each was last asked, or first seen ready."""
        self._asking: set[Replica] = set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as questions:
            while True:
                for replica, model, health in self._due():
                    self._asking.add(replica)
                    questions.create_task(self._ask(replica, model, health))
                await asyncio.sleep(self._tick)

    def _due(self) -> list[tuple[Replica, str, Health]]:
        now, snapshot = self._clock(), self._state.snapshot
        ready = [one for one in snapshot.replicas if one.readiness.ready]
        self._asked_at = {one: self._asked_at.get(one, now) for one in ready}
        found = []
        for replica in ready:
            if replica in self._asking:
                continue
            health = _health(snapshot, replica)
            model = model_of(snapshot, replica.backend_name)
            if model is None or not health.token_interval:
                replica.stuck = ""
            elif is_due(replica, health, self._asked_at[replica], now):
                found.append((replica, model, health))
        return found

    async def _ask(self, replica: Replica, model: str, health: Health) -> None:
        backend, answered_at = replica.backend, replica.answered_at
        try:
            said = await backend.look_closely(
                replica.address, model, health.token_timeout, busy=replica.outstanding > 0
            )
        except Exception:
            logger.exception("asking %s for a token hit a bug", replica.id)
            said = None
        finally:
            self._asking.discard(replica)
        now = self._clock()
        self._asked_at[replica] = now
        if said is None or replica.backend is not backend or replica.answered_at > answered_at:
            return  # nothing can be told, or somebody else has
        replica.asked_for_token(said, now)


def _health(snapshot: Snapshot, replica: Replica) -> Health:
    options = snapshot.config.backends[replica.backend_name]
    return options.health if isinstance(options, HttpOptions) else Health()


def is_due(replica: Replica, health: Health, asked_at: float, now: float) -> bool:
    """Whether a replica that is ready is to be asked. Pure."""
    if not health.token_interval:
        return False
    if replica.stuck:
        return now - asked_at >= min(AGAIN, health.token_interval)
    return now - max(asked_at, replica.answered_at) >= health.token_interval


def model_of(snapshot: Snapshot, backend: str) -> str | None:
    """What the engines of `backend` call a model that they have; None where nothing tells."""
    called = (
        variant.upstream
        for route in snapshot.table.routes
        for variant in route.variants
        if variant.backend == backend and variant.adapter is None
    )
    return next((name for name in called if name is not None), None)

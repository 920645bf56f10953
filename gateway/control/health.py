"""Ask the replicas whether they may take traffic, and remember what they say.

One task per look at one replica, all owned here. A probe has its own connection and its own
timeout, so a hung replica delays nobody, and it never touches the counters of the traffic.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable

from backends.base import Backend
from backends.readiness import Readiness
from gateway.control.state import State
from gateway.routing.replica import SILENT_PROBES, Replica

logger = logging.getLogger(__name__)

INTERVAL = 2.0
"""Seconds between two looks at all replicas."""
TIMEOUT = 5.0
"""Seconds a replica may take to say how it is."""


class HealthMonitor:
    """Looks at the replicas of the current snapshot, again and again."""

    def __init__(
        self,
        state: State,
        interval: float = INTERVAL,
        timeout: float = TIMEOUT,
        on_return: Callable[[Replica], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_return` is awaited, for as long as `timeout`, before a replica that was not ready is
        ready; what it knows of that one may be true no more."""
        self._state = state
        self._on_return = on_return
        self._clock = clock
        self._interval = interval
        self._timeout = timeout

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as looks:
            looking: dict[Replica, asyncio.Task[None]] = {}
            while True:
                looking = {replica: task for replica, task in looking.items() if not task.done()}
                for replica in self._state.snapshot.replicas:
                    if replica not in looking:
                        looking[replica] = looks.create_task(self._make_sure(replica))
                await asyncio.sleep(self._interval)

    async def look(self, replicas: Iterable[Replica]) -> None:
        """One look at each of `replicas`, side by side."""
        async with asyncio.TaskGroup() as looks:
            for replica in replicas:
                looks.create_task(self._look_at(replica))

    async def _make_sure(self, replica: Replica) -> None:
        """Look, and where nothing comes back look again at once: requests may wait there."""
        for _ in range(SILENT_PROBES):
            if not await self._look_at(replica):
                break

    async def _look_at(self, replica: Replica) -> bool:
        """One look; whether nothing came back."""
        backend, known = replica.backend, replica.readiness
        began, most, before = self._clock(), backend.probes_beside, replica.outstanding
        said = await self._probed(replica)
        busy = most is not None and max(before, replica.outstanding) > most
        replica.probed(said, began, self._clock(), busy=busy)
        if not said.silent or replica.answered_at < began:
            await self._take_note(replica, said, backend, known)
        # Else it makes tokens, and had nobody left to say so.
        return said.silent

    async def _take_note(
        self, replica: Replica, said: Readiness, backend: Backend, known: Readiness
    ) -> None:
        if replica.readiness is not known:
            return  # there is newer word, and this one is not counted either
        readiness = self._believed(replica, said)
        if readiness.ready and not known.ready:
            await self._tell_of_return(replica)
        if replica.backend is not backend or replica.readiness is not known:
            return  # a reload has replaced the adapter, or there is newer word
        replica.observe(readiness)

    def _believed(self, replica: Replica, said: Readiness) -> Readiness:
        """`said`, unless the replica is back from one of many times that it was away."""
        now, flapping = self._clock(), replica.flapping
        if said.ready and not replica.readiness.ready:
            if not flapping.back(now):
                why = f"it is back, and was away {flapping.needed(now)} times lately: being watched"
                return Readiness(False, why)
        elif not said.ready:
            replica.is_away(now)
        return said

    async def _probed(self, replica: Replica) -> Readiness:
        try:
            async with asyncio.timeout(self._timeout):
                return await replica.backend.probe(replica.address)
        except TimeoutError:
            why = f"no answer to a health check in {self._timeout:g} s"
            return Readiness(False, why, silent=True)
        except Exception:
            logger.exception("the health check of %s hit a bug", replica.id)
            return Readiness(False, "its health check failed in the gateway")

    async def _tell_of_return(self, replica: Replica) -> None:
        """No word of what comes of it: that replica is ready all the same."""
        if self._on_return is None:
            return
        try:
            async with asyncio.timeout(self._timeout):
                await self._on_return(replica)
        except TimeoutError:
            logger.warning("%s: back, and did not say more in %g s", replica.id, self._timeout)
        except Exception:
            logger.exception("the return of %s hit a bug", replica.id)

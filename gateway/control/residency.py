"""Which of the engines that the gateway starts may be in memory, under `memory_limit`.

Rules of this file:

- Room is made by the engines that were not asked for the longest, and only by idle ones: an engine
  that is being started, or has a request running or pending, stays.
- Whoever finds no room waits in line, first come, first served: so a large engine is not passed
  over for good by small ones. The line is bounded, and so is the wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence

from backends.base import BackendError, Cause, Stage
from backends.launch.residency import Tenant
from backends.memory import written

logger = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds to wait for room."""
LONGEST_LINE = 64
"""Engines, not requests, that may wait for room; of one engine only one request does."""


class MemoryResidency:
    """The owner of the room for engines. Belongs to one event loop."""

    def __init__(self, limit: int | None = None, patience: float = PATIENCE) -> None:
        """`limit` in bytes; None for as much as there is."""
        self._limit = limit
        self._patience = patience
        self._tenants: dict[int, Tenant] = {}
        self._line: deque[Tenant] = deque()
        self._changed = asyncio.Event()

    def set_limit(self, limit: int | None) -> None:
        """Put another limit in force. Nobody is sent away for it before room is wanted."""
        self._limit = limit
        self.changed()

    def join(self, tenant: Tenant) -> None:
        """Know an engine, asleep or not."""
        self._tenants[id(tenant)] = tenant

    def leave(self, tenant: Tenant) -> None:
        """Forget one that is gone for good."""
        self._tenants.pop(id(tenant), None)
        self.changed()

    def changed(self) -> None:
        """Somebody has become idle, or has gone: whoever waits looks again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def admit_at_once(self, tenant: Tenant) -> bool:
        """Wake `tenant` if it has room without sending anybody away, and nobody waits."""
        if self._line or self._victims(tenant) != []:
            logger.info("%s: stays asleep: there is no room for it beside the others", tenant.id)
            return False
        tenant.wake()
        return True

    async def admit(self, tenant: Tenant) -> None:
        """Make room for `tenant` and wake it. Raises `BackendError` where there is none in time."""
        if self._limit is not None and tenant.memory > self._limit:
            raise _refusal(
                f"{tenant.id} takes {written(tenant.memory)}, and `memory_limit` is "
                f"{written(self._limit)}"
            )
        if len(self._line) >= LONGEST_LINE:
            raise _refusal(f"{LONGEST_LINE} engines wait for room in memory already")
        self._line.append(tenant)
        try:
            async with asyncio.timeout(self._patience):
                await self._wait_in_line(tenant)
        except TimeoutError:
            raise _refusal(self._no_room(tenant)) from None
        finally:
            self._line.remove(tenant)
            self.changed()

    async def _wait_in_line(self, tenant: Tenant) -> None:
        while True:
            victims = self._victims(tenant) if self._line[0] is tenant else None
            if victims == []:
                tenant.wake()
                return
            if victims is None:
                await self._changed.wait()
                continue
            for victim in victims:  # before anybody else runs, who might ask one of them
                logger.info("%s: stopping, to make room for %s", victim.id, tenant.id)
                victim.go_to_sleep()
            await asyncio.gather(*(victim.until_asleep() for victim in victims))

    def _victims(self, tenant: Tenant) -> list[Tenant] | None:
        if self._limit is None:
            return []
        others = [one for one in self._tenants.values() if one is not tenant and one.resident]
        return choose_victims(tenant.memory, others, self._limit)

    def _no_room(self, tenant: Tenant) -> str:
        there = ", ".join(
            f"{one.id} ({written(one.memory)}{_why_it_stays(one)})"
            for one in self._tenants.values()
            if one is not tenant and one.resident
        )
        assert self._limit is not None, "without a limit there is room"
        return (
            f"no room in memory for {tenant.id} ({written(tenant.memory)}) within "
            f"{self._patience:g} s: {there} are there, and `memory_limit` is "
            f"{written(self._limit)}"
        )


def choose_victims(wanted: int, residents: Sequence[Tenant], limit: int) -> list[Tenant] | None:
    """Whom to stop so that `wanted` bytes fit under `limit` beside the rest. Pure.

    The idle ones, those first that were not used the longest, and of them only as many as it
    takes; an empty list where there is room, None where not even all of them would do.
    """
    excess = sum(one.memory for one in residents) + wanted - limit
    chosen: list[Tenant] = []
    for one in _idle_longest_first(residents):
        if excess <= 0:
            break
        chosen.append(one)
        excess -= one.memory
    if excess > 0:
        return None
    for one in tuple(chosen):  # a large one may have made a small one's going needless
        if excess + one.memory <= 0:
            chosen.remove(one)
            excess += one.memory
    return chosen


def _idle_longest_first(residents: Iterable[Tenant]) -> list[Tenant]:
    idle = (one for one in residents if not one.busy and not one.starting)
    return sorted(idle, key=lambda one: one.last_used)


def _why_it_stays(one: Tenant) -> str:
    return ", busy" if one.busy else ", starting" if one.starting else ""


def _refusal(why: str) -> BackendError:
    return BackendError(Stage.CONNECT, Cause.REFUSED, why)

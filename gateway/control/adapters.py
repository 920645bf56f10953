"""Give each replica the LoRA adapters that the configuration wants, and take away what it had.

Rules of this file:

- A new adapter is loaded on every replica before the table that names it is in force; one that is
  wanted no more is unloaded once no request sees a snapshot that names it.
- What a replica says it has counts, not what it was told: it may have been restarted.
- Only what was wanted here at some time is unloaded: a server may have adapters of others.
- A replica that fails keeps nobody else: it is told, and tried again after a wait that doubles.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterable
from enum import StrEnum

import msgspec

from backends.base import Adapter, Backend, BackendError
from backends.launch.phase import Phase
from backends.readiness import Readiness
from gateway.control.engines import Opened
from gateway.control.state import State
from gateway.routing.reasons import by_reason
from gateway.routing.replica import Replica

logger = logging.getLogger(__name__)

TICK = 0.25
"""Seconds between two looks whether a replica lacks something that it should have."""
INTERVAL = 2.0
"""Seconds after which a replica is asked what it has."""
TIMEOUT = 60.0
"""Seconds that a replica may take to load or drop one adapter."""
ASK_TIMEOUT = 5.0
"""Seconds that it may take to say how it is, or what it has, where somebody waits for that."""
_LONGEST_WAIT = 60.0


class Outcome(StrEnum):
    """What has become of an adapter on a replica."""

    LOADED = "loaded"
    """It is there, now or already."""
    FAILED = "failed"
    WAITING = "waiting"
    """The replica is not ready: it is given the adapter when it is."""


class Result(msgspec.Struct, frozen=True):
    """How it went with one adapter on one replica."""

    replica: str
    adapter: Adapter
    outcome: Outcome
    reason: str = ""


class Changes(msgspec.Struct, frozen=True):
    """What to do to one replica, in this order."""

    load: tuple[Adapter, ...]
    unload: tuple[Adapter, ...]


def changes(
    wanted: frozenset[Adapter],
    kept: frozenset[Adapter],
    ours: frozenset[Adapter],
    has: frozenset[Adapter],
) -> Changes:
    """What makes `has` into what it should be. Pure.

    `kept`: what a request may still use; `ours`: what has been wanted here at some time.
    """
    return Changes(_in_order(wanted - has), _in_order((ours & has) - kept - wanted))


class _Place(msgspec.Struct):
    """What is known of one replica."""

    lock: asyncio.Lock
    ours: frozenset[Adapter] = frozenset()
    asked: float = 0.0
    """When it was last asked what it has."""
    failures: int = 0
    """In a row."""
    again: float = 0.0
    """When it may be tried again after those."""


class Adapters:
    """The owner of what is loaded where."""

    def __init__(self, state: State, timeout: float = TIMEOUT) -> None:
        self._state = state
        self._timeout = timeout
        self._places: dict[str, _Place] = {}
        self._coming: frozenset[Adapter] = frozenset()
        """What a plan wants that is not in force yet."""

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            busy: dict[str, asyncio.Task[None]] = {}
            while True:
                busy = {replica: task for replica, task in busy.items() if not task.done()}
                now = time.monotonic()
                replicas = self._state.snapshot.replicas
                self._forget_all_but(replicas)
                for replica in replicas:
                    if replica.id not in busy and self._is_due(replica, now):
                        busy[replica.id] = group.create_task(self.settle(replica))
                await asyncio.sleep(TICK)

    async def settle(self, replica: Replica) -> None:
        """Bring one replica to where it should be, as far as it goes. Raises nothing."""
        wanted = self._wanted(replica.backend_name)
        results = await self._reconcile(replica.id, replica.backend, replica.address, wanted)
        _note_faults(replica, results)

    async def settle_all(self, replicas: Iterable[Replica]) -> None:
        """The same for each of `replicas` that is ready, side by side."""
        ready = [one for one in replicas if one.readiness.ready and self._concerns(one)]
        await asyncio.gather(*map(self.settle, ready))

    async def ask(self, replica: Replica) -> None:
        """Find out what a replica has that was away: what was known of it may be true no more.

        No longer than the caller waits; it is given what it lacks later, by `run`.
        """
        if not self._concerns(replica):
            return
        place = self._places.get(replica.id)
        ours = frozenset() if place is None else place.ours
        try:
            await replica.backend.find_adapters(replica.address, ours | self._kept())
        except BackendError as error:
            logger.warning("%s: does not say which adapters it has: %s", replica.id, error.message)

    async def load_ahead(self, opened: Collection[Opened]) -> list[Result]:
        """Load what `opened` wants on every replica that is ready, before it is in force.

        It stays until that is `decided`. Raises nothing.
        """
        self._coming = frozenset().union(*(one.options.loras for one in opened))
        loads = [
            self._load_ahead_on(one, address)
            for one in opened
            if one.options.loras
            for address in one.backend.addresses
        ]
        return [result for results in await asyncio.gather(*loads) for result in results]

    def decided(self) -> None:
        """What was loaded ahead is in force now, or will never be."""
        self._coming = frozenset()

    def note_faults(self, results: Iterable[Result]) -> None:
        """Keep what `load_ahead` has found for replicas in force."""
        by_replica: dict[str, list[Result]] = {}
        for result in results:
            by_replica.setdefault(result.replica, []).append(result)
        for replica in self._state.snapshot.replicas:
            if replica.id in by_replica:
                _note_faults(replica, by_replica[replica.id])

    async def _load_ahead_on(self, opened: Opened, address: str) -> list[Result]:
        replica = Replica(opened.name, opened.backend, address).id
        wanted = opened.options.loras
        try:
            async with asyncio.timeout(ASK_TIMEOUT):
                said = await opened.backend.probe(address)
        except TimeoutError:
            said = Readiness(False, f"no answer to a health check in {ASK_TIMEOUT:g} s")
        except Exception:
            logger.exception("the health check of %s hit a bug", replica)
            said = Readiness(False, "its health check failed in the gateway")
        if not said.ready:
            return _all(Outcome.WAITING, replica, wanted, said.reason)
        return await self._reconcile(replica, opened.backend, address, wanted, unload=False)

    async def _reconcile(
        self,
        replica: str,
        backend: Backend,
        address: str,
        wanted: frozenset[Adapter],
        *,
        unload: bool = True,
    ) -> list[Result]:
        """Give a replica what it lacks of `wanted`, and take away what nobody wants.

        One at a time for each replica. Raises nothing.
        """
        place = self._places.setdefault(replica, _Place(asyncio.Lock()))
        async with place.lock:
            place.asked = time.monotonic()
            place.ours |= wanted
            try:
                results = await self._change(
                    replica, backend, address, place, wanted, unload=unload
                )
            except Exception:
                logger.exception("the adapters of %s: a bug", replica)
                results = _all(Outcome.FAILED, replica, wanted, "it failed in the gateway")
                _count(place, failed=True)
            return results

    async def _change(
        self,
        replica: str,
        backend: Backend,
        address: str,
        place: _Place,
        wanted: frozenset[Adapter],
        *,
        unload: bool,
    ) -> list[Result]:
        kept = self._kept()
        try:
            async with asyncio.timeout(self._timeout):
                has = await backend.find_adapters(address, place.ours | kept)
        except (BackendError, TimeoutError) as error:
            if (state := _is_not_there(backend, address)) is not None:
                return _all(Outcome.WAITING, replica, wanted, state)
            _count(place, failed=True)
            reason = f"it does not say what it has: {_reason(error, self._timeout)}"
            return _all(Outcome.FAILED, replica, wanted, reason)
        todo = changes(wanted, kept, place.ours, has)
        results = _all(Outcome.LOADED, replica, wanted & has)
        results += [await self._load(replica, backend, address, one) for one in todo.load]
        _count(place, failed=any(one.outcome is Outcome.FAILED for one in results))
        if not unload:
            return results
        for one in todo.unload:
            if one not in self._kept():  # it may be wanted again by now
                await self._unload(replica, backend, address, one)
        place.ours &= wanted | self._kept()
        return results

    async def _load(self, replica: str, backend: Backend, address: str, adapter: Adapter) -> Result:
        try:
            async with asyncio.timeout(self._timeout):
                await backend.load_adapter(address, adapter)
        except (BackendError, TimeoutError) as error:
            return Result(replica, adapter, Outcome.FAILED, _reason(error, self._timeout))
        logger.info("%s: adapter %s: loaded", replica, adapter.name)
        return Result(replica, adapter, Outcome.LOADED)

    async def _unload(self, replica: str, backend: Backend, address: str, adapter: Adapter) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await backend.unload_adapter(address, adapter)
        except (BackendError, TimeoutError) as error:
            reason = _reason(error, self._timeout)
            logger.warning("%s: adapter %s: not unloaded: %s", replica, adapter.name, reason)
        else:
            logger.info("%s: adapter %s: unloaded", replica, adapter.name)

    def _is_due(self, replica: Replica, now: float) -> bool:
        if not replica.readiness.ready or not self._concerns(replica):
            return False
        place = self._places.get(replica.id)
        wanted = self._wanted(replica.backend_name)
        if place is None or place.ours - wanted - self._kept():
            return True
        if now < place.again:
            return False
        return now - place.asked >= INTERVAL or not all(map(replica.serves, wanted))

    def _concerns(self, replica: Replica) -> bool:
        place = self._places.get(replica.id)
        return bool(self._wanted(replica.backend_name) or (place is not None and place.ours))

    def _wanted(self, backend: str) -> frozenset[Adapter]:
        options = self._state.snapshot.config.backends.get(backend)
        return frozenset() if options is None else options.loras

    def _kept(self) -> frozenset[Adapter]:
        """What any snapshot names that a request may still see, of whatever backend."""
        live = (one.config.backends.values() for one in self._state.live)
        return self._coming.union(*(options.loras for group in live for options in group))

    def _forget_all_but(self, replicas: Iterable[Replica]) -> None:
        ids = {replica.id for replica in replicas}
        for gone in self._places.keys() - ids:
            if not self._places[gone].lock.locked():
                del self._places[gone]


def refusal(results: Iterable[Result], in_force: Iterable[Adapter]) -> str | None:
    """Why a plan should not be in force: an adapter new in it, which no replica could load. Pure.

    Where no replica could be asked that is no reason: they are given it when they are back.
    """
    old = frozenset(in_force)
    by_adapter: dict[Adapter, list[Result]] = {}
    for result in results:
        if result.adapter not in old and result.outcome is not Outcome.WAITING:
            by_adapter.setdefault(result.adapter, []).append(result)
    reasons = [
        f"no replica could load the adapter {adapter.name!r}: "
        + by_reason((one.replica, one.reason) for one in tried)
        for adapter, tried in by_adapter.items()
        if all(one.outcome is Outcome.FAILED for one in tried)
    ]
    return "\n".join(reasons) or None


def _in_order(adapters: Iterable[Adapter]) -> tuple[Adapter, ...]:
    return tuple(sorted(adapters, key=lambda one: (one.name, one.path)))


def _reason(error: Exception, timeout: float) -> str:
    return error.message if isinstance(error, BackendError) else f"no answer in {timeout:g} s"


def _all(
    outcome: Outcome, replica: str, adapters: Iterable[Adapter], reason: str = ""
) -> list[Result]:
    return [Result(replica, one, outcome, reason) for one in _in_order(adapters)]


def _is_not_there(backend: Backend, address: str) -> str | None:
    """What an engine of ours that cannot be asked does instead; None where it runs."""
    supervised = backend.supervised(address)
    if supervised is None or supervised.state == Phase.READY:
        return None
    return f"its engine is {supervised.state}"


def _note_faults(replica: Replica, results: Iterable[Result]) -> None:
    faults = {one.adapter: one.reason for one in results if one.outcome is Outcome.FAILED}
    for adapter, reason in faults.items():
        if replica.adapter_faults.get(adapter) != reason:
            logger.warning("%s: adapter %s: not loaded: %s", replica.id, adapter.name, reason)
    replica.adapter_faults = faults


def _count(place: _Place, *, failed: bool) -> None:
    """Wait longer before the next try the more of them have failed in a row."""
    place.failures = place.failures + 1 if failed else 0
    wait = min(2.0**place.failures, _LONGEST_WAIT) if failed else 0.0
    place.again = time.monotonic() + wait

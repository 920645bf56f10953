"""The owner of the opened backends: from a configuration to replicas, and what changes between two.

A backend whose entry in routing.yaml has not changed is kept as it is, also where it has other
LoRA adapters now and its engine can change them while it runs. Where it has changed, another one
is opened beside it; replicas are matched by id, so that their counters, breakers and readiness
live on, and the old adapter is stopped once no request uses it any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from functools import partial

import msgspec

from backends.base import Backend, BackendError, Footprint, Options, Readiness
from backends.launch.backend import LaunchedBackend
from backends.launch.run_folder import reap
from backends.memory import machine_memory, refusal
from gateway.config.structs import Config
from gateway.control.residency import MemoryResidency
from gateway.control.state import Snapshot
from gateway.routing.replica import Replica
from gateway.routing.table import Table

logger = logging.getLogger(__name__)


class Opened(msgspec.Struct, frozen=True, eq=False):
    """A backend that has been opened from `options`."""

    name: str
    options: Options
    backend: Backend


class StartError(Exception):
    """A backend could not be started; the message names it and says why."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to get from the configuration in force to another one."""

    config: Config
    opened: dict[str, Opened]
    """All backends of the new configuration."""
    fresh: tuple[Opened, ...]
    """Those of them that must be started first."""
    retired: tuple[Opened, ...]
    """Those of the old one that must be stopped at last."""


class Engines:
    """Opens, starts and stops backends; makes and keeps their replicas."""

    def __init__(self) -> None:
        self._residency = MemoryResidency()
        self._opened: dict[str, Opened] = {}
        self._retired: set[Opened] = set()
        """No longer in force, and not yet stopped."""
        self._replicas: dict[str, Replica] = {}

    def plan(self, config: Config) -> Plan:
        """Open what `config` has and nobody has opened yet. Nothing in force changes.

        Raises `StartError`, also where what is to be loaded here does not fit into memory.
        """
        _refuse_what_does_not_fit(config)
        opened: dict[str, Opened] = {}
        fresh: list[Opened] = []
        for name, options in config.backends.items():
            known = self._opened.get(name)
            if known is None or known.options.engine() != options.engine():
                known = Opened(name, options, self._open(name, options))
                fresh.append(known)
            elif known.options != options:
                known = Opened(name, options, known.backend)
            opened[name] = known
        kept = {id(one.backend) for one in opened.values()}
        retired = tuple(old for old in self._opened.values() if id(old.backend) not in kept)
        return Plan(config=config, opened=opened, fresh=tuple(fresh), retired=retired)

    async def start(self, plan: Plan) -> None:
        """Start what is fresh, side by side; what is loaded into this process, one by one.

        Raises `StartError`; then all of it is stopped.
        """
        if any(isinstance(opened.backend, LaunchedBackend) for opened in plan.fresh):
            await asyncio.to_thread(reap)
        try:
            async with asyncio.TaskGroup() as starting:
                starting.create_task(_start_in_turn(_loaded_here(plan.fresh)))
                for opened in plan.fresh:
                    if not opened.backend.loads_here:
                        starting.create_task(_start(opened))
        except BaseException as error:
            await self.stop(plan.fresh)
            if isinstance(error, BaseExceptionGroup):
                raise error.exceptions[0] from None
            raise

    def commit(self, plan: Plan) -> Snapshot:
        """Make `plan` the one in force: its replicas, and the table that leads to them."""
        self._opened = plan.opened
        self._residency.set_limit(plan.config.memory_limit)
        self._retired.update(plan.retired)
        replicas = {
            name: tuple(self._replica(opened, address) for address in opened.backend.addresses)
            for name, opened in plan.opened.items()
        }
        every = tuple(replica for group in replicas.values() for replica in group)
        self._replicas = {replica.id: replica for replica in every}
        return Snapshot(
            config=plan.config, table=Table.build(plan.config, replicas), replicas=every
        )

    async def stop(self, opened: Iterable[Opened] | None = None) -> None:
        """Stop `opened`, or everything; a backend that fails at it does not keep the others."""
        chosen = [*self._opened.values(), *self._retired] if opened is None else list(opened)
        self._retired.difference_update(chosen)
        results = await asyncio.gather(
            *(one.backend.stop() for one in chosen), return_exceptions=True
        )
        for one, result in zip(chosen, results, strict=True):
            if isinstance(result, BaseException):
                logger.error("backend %s did not stop cleanly: %r", one.name, result)

    def _open(self, name: str, options: Options) -> Backend:
        try:
            backend = options.open(name)
        except (ValueError, ImportError, BackendError) as error:
            raise StartError(f"backend {name!r}: {error}") from error
        if isinstance(backend, LaunchedBackend):
            backend.join(self._residency)
            backend.on_change = partial(self._observe, name, backend)
        return backend

    def _observe(self, name: str, backend: Backend, address: str, readiness: Readiness) -> None:
        """Take note at once of what a child process does, rather than at the next probe."""
        replica = self._replicas.get(Replica(name, backend, address).id)
        if replica is not None and replica.backend is backend:
            replica.observe(readiness)

    def _replica(self, opened: Opened, address: str) -> Replica:
        fresh = Replica(opened.name, opened.backend, address)
        known = self._replicas.get(fresh.id)
        if known is None:
            fresh.readiness = Readiness(False, "loading")
            return fresh
        # The same replica may be spelled differently now, and the adapter knows its own spelling.
        known.backend, known.address = opened.backend, address
        return known


def _loaded_here(fresh: Iterable[Opened]) -> list[Opened]:
    return [opened for opened in fresh if opened.backend.loads_here]


async def _start_in_turn(fresh: Iterable[Opened]) -> None:
    """Loading takes more memory for a moment than the model does then: so one at a time."""
    for opened in fresh:
        await _start(opened)


async def _start(opened: Opened) -> None:
    try:
        await opened.backend.start()
    except BackendError as error:
        raise StartError(f"backend {opened.name!r}: {error.message}") from error


def _refuse_what_does_not_fit(config: Config) -> None:
    footprints: dict[str, Footprint] = {}
    for name, options in config.backends.items():
        with contextlib.suppress(ValueError, OSError):  # its start says what is wrong with it
            footprint = options.footprint()
            if footprint is not None:
                footprints[name] = footprint
    why = refusal(footprints, machine_memory()) if footprints else None
    if why is not None:
        raise StartError(why)

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
import os
from collections.abc import Iterable, Mapping
from functools import partial

import msgspec

from backends.base import Backend, BackendError
from backends.launch.backend import LaunchedBackend
from backends.launch.run_folder import reap
from backends.memory import Footprint, machine_memory, refusal
from backends.options import HttpOptions, Options
from backends.readiness import Condition, Readiness
from gateway.config.secret_variables import secret_variables
from gateway.config.structs import Config
from gateway.control.departed import Departed
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
    footprint: Footprint | None = None
    """What it takes of this machine's memory, where that could be told when it was planned."""


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
        self._memory_limit: int | None = None
        """The one in force."""
        self._opened: dict[str, Opened] = {}
        self._retired: set[Opened] = set()
        """No longer in force, and not yet stopped."""
        self._replicas: dict[str, Replica] = {}
        self._departed = Departed()
        self._table: Table | None = None
        """The one in force."""

    @property
    def draining(self) -> list[Replica]:
        """Replicas that are in no table any more, and have requests running."""
        return self._departed.draining

    def opened(self, name: str | None) -> list[Opened]:
        """The backend in force that is called so, if any."""
        return [one for one in self._opened.values() if one.name == name]

    def plan(self, config: Config) -> Plan:
        """Open what `config` has and nobody has opened yet. Nothing in force changes. Blocks.

        What is opened holds nothing until it is started, so a plan may just be dropped.
        Raises `StartError`, also where what is to be loaded here does not fit into memory beside
        what is loaded still.
        """
        footprints = {name: _footprint(options) for name, options in config.backends.items()}
        kept = {name for name, options in config.backends.items() if self._keeps(name, options)}
        retired = tuple(old for name, old in self._opened.items() if name not in kept)
        _refuse_what_does_not_fit(footprints, [*retired, *self._retired])
        opened: dict[str, Opened] = {}
        for name, options in config.backends.items():
            backend = self._opened[name].backend if name in kept else self._open(name, options)
            opened[name] = Opened(name, options, backend, footprints[name])
        fresh = tuple(one for name, one in opened.items() if name not in kept)
        return Plan(config=config, opened=opened, fresh=fresh, retired=retired)

    def _keeps(self, name: str, options: Options) -> bool:
        """Whether the backend `name` can be kept for `options`."""
        known = self._opened.get(name)
        return known is not None and known.options.engine() == options.engine()

    async def start(self, plan: Plan) -> None:
        """Start what is fresh, side by side; what is loaded into this process, one by one.

        Until `commit` or `abandon` the larger limit holds, of the one in force and the one to be.
        Raises `StartError`; then the plan is abandoned.
        """
        self._residency.set_limit(_larger(self._memory_limit, plan.config.memory_limit))
        launched = [one.backend for one in plan.fresh if isinstance(one.backend, LaunchedBackend)]
        _withhold_secrets(plan.fresh, plan.config)
        for backend in launched:
            backend.join(self._residency)
        try:
            if launched:
                await asyncio.to_thread(reap)
            async with asyncio.TaskGroup() as starting:
                starting.create_task(_start_in_turn(_loaded_here(plan.fresh)))
                for opened in plan.fresh:
                    if not opened.backend.loads_here:
                        starting.create_task(_start(opened))
        except BaseException as error:
            await self.abandon(plan)
            if not isinstance(error, BaseExceptionGroup):
                raise
            first, *others = error.exceptions
            for other in others:
                logger.error("%s", other, exc_info=_unless_told(other))
            raise first from None

    async def abandon(self, plan: Plan) -> None:
        """Stop what `start` has started: `plan` does not come into force."""
        await self.stop(plan.fresh)
        self._residency.set_limit(self._memory_limit)

    def commit(self, plan: Plan) -> Snapshot:
        """Make `plan` the one in force: its replicas, and the table that leads to them."""
        self._opened = plan.opened
        self._memory_limit = plan.config.memory_limit
        self._residency.set_limit(self._memory_limit)
        self._retired.update(plan.retired)
        _withhold_secrets(plan.opened.values(), plan.config)
        replicas = {
            name: tuple(self._replica(opened, address) for address in opened.backend.addresses)
            for name, opened in plan.opened.items()
        }
        every = tuple(replica for group in replicas.values() for replica in group)
        self._departed.let_go(self._replicas, every)
        self._replicas = {replica.id: replica for replica in every}
        for group in replicas.values():
            for replica in group:
                replica.peers = group
        self._table = Table.build(plan.config, replicas, self._table)
        return Snapshot(config=plan.config, table=self._table, replicas=every)

    def want_adapters(self, live: Iterable[Config]) -> None:
        """Have engines that are started take what `live` configurations may ask them for."""
        entries = [item for config in live for item in config.backends.items()]
        for name, opened in self._opened.items():
            if isinstance(opened.backend, LaunchedBackend):
                engine = opened.options.engine()
                same = (one for other, one in entries if other == name and one.engine() == engine)
                opened.backend.want(frozenset().union(*(one.loras for one in same)))

    async def stop(self, opened: Iterable[Opened] | None = None) -> None:
        """Stop `opened`, or everything; a backend that fails at it does not keep the others."""
        chosen = [*self._opened.values(), *self._retired] if opened is None else list(opened)
        results = await asyncio.gather(
            *(one.backend.stop() for one in chosen), return_exceptions=True
        )
        for one, result in zip(chosen, results, strict=True):
            if isinstance(result, BaseException):
                logger.error("%s: did not stop cleanly: %r", one.name, result)
        # Not before: whoever is cancelled in the middle of it leaves them to the one who stops all.
        self._retired.difference_update(chosen)

    def _open(self, name: str, options: Options) -> Backend:
        try:
            backend = options.open(name)
        except (ValueError, ImportError, BackendError) as error:
            raise StartError(f"backend {name!r}: {error}") from error
        if isinstance(backend, LaunchedBackend):
            backend.on_change = partial(self._observe, name, backend)
            backend.want(options.loras)
        return backend

    def _observe(self, name: str, backend: Backend, address: str, readiness: Readiness) -> None:
        """Take note at once of what a child process does, rather than at the next probe."""
        replica = self._replicas.get(Replica(name, backend, address).id)
        if replica is not None and replica.backend is backend:
            replica.observe(readiness)

    def _replica(self, opened: Opened, address: str) -> Replica:
        fresh = Replica(opened.name, opened.backend, address)
        replica = self._replicas.get(fresh.id) or self._departed.take_back(fresh.id)
        if replica is None:
            replica = fresh
            replica.observe(Readiness(False, "loading", Condition.LOADING))
        # The same replica may be spelled differently now, and the adapter knows its own spelling.
        replica.backend, replica.address = opened.backend, address
        if isinstance(opened.options, HttpOptions):
            replica.base_weight = opened.options.weight(address)
            replica.slow_start = opened.options.slow_start
            replica.detection = opened.options.outlier_detection
        return replica


def _withhold_secrets(opened: Iterable[Opened], config: Config) -> None:
    """Let no engine that is started inherit a secret of `config`."""
    withheld = secret_variables(config, os.environ)
    for one in opened:
        if isinstance(one.backend, LaunchedBackend):
            one.backend.withheld = withheld


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


def _footprint(options: Options) -> Footprint | None:
    with contextlib.suppress(ValueError, OSError):  # its start says what is wrong with it
        return options.footprint()
    return None


def _refuse_what_does_not_fit(
    footprints: Mapping[str, Footprint | None], leaving: Iterable[Opened]
) -> None:
    """`leaving` are in memory for as long as a request uses them: new ones load beside them."""
    wanted = {name: one for name, one in footprints.items() if one is not None}
    still = [(one.name, one.footprint) for one in leaving if one.footprint is not None]
    why = refusal(wanted, machine_memory(), still) if wanted else None
    if why is not None:
        raise StartError(why)


def _larger(limit: int | None, other: int | None) -> int | None:
    """Of two limits the one that lets more in; None is no limit."""
    return None if limit is None or other is None else max(limit, other)


def _unless_told(error: BaseException) -> BaseException | None:
    """What else is to be logged of `error`: its traceback, where it is a bug."""
    return None if isinstance(error, StartError) else error

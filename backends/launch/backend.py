"""Engines that the gateway has started, as a backend: one adapter for each life of each replica.

Replicas are told apart by a number, so that a restart on another socket is no other replica.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from functools import partial
from pathlib import Path

import msgspec

from backends.base import (
    Adapter,
    Backend,
    BackendError,
    ByteStream,
    Cause,
    Reply,
    Request,
    RequestRefused,
    Stage,
    Supervised,
)
from backends.launch.argv import secrets_of
from backends.launch.engine_log import EngineLog, log_file
from backends.launch.life import Life
from backends.launch.phase import Phase
from backends.launch.residency import Residency
from backends.launch.restarts import Restarts
from backends.launch.run_folder import RunFolder
from backends.launch.supervisor import Supervisor
from backends.load import Demand, Load
from backends.options import Launch, LaunchableOptions
from backends.readiness import Readiness


class LaunchedBackend(Backend):
    """The replicas of one `launch`."""

    restarts = True

    def __init__(self, name: str, options: LaunchableOptions, launch: Launch) -> None:
        self.name = name
        self._options = options
        self._launch = launch
        self._wanted = options.loras
        self.addresses = tuple(map(str, range(options.count)))
        self.on_change: Callable[[str, Readiness], None] | None = None
        """Told the address and its readiness whenever that changes."""
        self.withheld: frozenset[str] = frozenset()
        """Variables of our environment that are not for engines started from now on."""
        self._folder: RunFolder | None = None
        self._logs: dict[str, EngineLog] = {}
        # What it can do is what the adapter of a running engine can.
        kind = msgspec.structs.replace(options, launch=None, replicas=("unix:/none",)).connect(name)
        self.provider = kind.provider
        self._claim(kind)
        self.counts_chats = kind.counts_chats
        self.takes_priority = kind.takes_priority
        self.shows_progress = kind.shows_progress
        self.probes_beside = kind.probes_beside
        self._supervisors = {address: self._supervise(address) for address in self.addresses}

    def join(self, residency: Residency) -> None:
        """Ask `residency` before an engine is started."""
        for supervisor in self._supervisors.values():
            supervisor.residency = residency
            residency.join(supervisor)

    async def start(self) -> None:
        """Start what is to be preloaded and has room, until it is ready. Raises `BackendError`.

        Room is taken before anything is waited for: the backends of a file come in its order.
        """
        try:
            self._folder = RunFolder()
        except OSError as error:
            reason = f"there is no folder for the sockets of its engines: {error}"
            raise BackendError(Stage.CONNECT, Cause.ENGINE, reason) from error
        for address, supervisor in self._supervisors.items():
            file = log_file(supervisor.id, os.environ)
            self._logs[address] = EngineLog(supervisor.id, file, secrets_of(self._options))
            supervisor.start()
        if not self._launch.preload:
            return
        woken = [one for one in self._supervisors.values() if self._wake(one)]
        try:
            async with asyncio.TaskGroup() as starting:
                for supervisor in woken:
                    starting.create_task(supervisor.settled())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    async def send(self, address: str, request: Request) -> Reply:
        """Ask the engine at `address`, which is ready; see `readying`."""
        supervisor, life = self._supervisors[address], self._alive(address)
        end = supervisor.begin()
        try:
            reply = await life.adapter.send(life.address, request)
        except BackendError as error:
            end()
            raise _told(supervisor.id, life, error) from error
        except BaseException:
            end()
            raise
        body = _Counted(reply.body, end, partial(_told, supervisor.id, life))
        return Reply(reply.status, reply.headers, body)

    def readying(self, address: str) -> Awaitable[None] | None:
        """See `Backend.readying`."""
        if self._supervisors[address].phase is Phase.READY:
            return None
        return self._until_ready(address)

    async def probe(self, address: str) -> Readiness:
        """Its phase, and, of one that serves, what the engine itself says."""
        supervisor = self._supervisors[address]
        life = supervisor.life
        if life is None:
            return supervisor.readiness
        said = await life.adapter.probe(life.address)
        return said if supervisor.life is life else supervisor.readiness

    def load(self, address: str) -> Load | None:
        """See `Backend.load`."""
        life = self._supervisors[address].life
        return None if life is None else life.adapter.load(life.address)

    async def demand(self, address: str) -> Demand | None:
        """See `Backend.demand`. Of an engine that does not run it is unknown."""
        life = self._supervisors[address].life
        return None if life is None else await life.adapter.demand(life.address)

    async def count_text(self, address: str, text: str) -> int | None:
        """See `Backend.count_text`."""
        life = self._supervisors[address].life
        return None if life is None else await life.adapter.count_text(life.address, text)

    def supervised(self, address: str) -> Supervised:
        """See `Backend.supervised`."""
        return self._supervisors[address].supervised

    def want(self, adapters: frozenset[Adapter]) -> None:
        """Have engines that are started from now on take `adapters` before they are ready.

        To those that run they are given by `load_adapter`.
        """
        self._wanted = adapters

    def has_adapter(self, address: str, adapter: Adapter) -> bool:
        """See `Backend.has_adapter`. One that does not run will have what is wanted."""
        life = self._supervisors[address].life
        if life is None:
            return adapter in self._wanted
        return life.adapter.has_adapter(life.address, adapter)

    def model_of(self, address: str, adapter: Adapter) -> str | None:
        """See `Backend.model_of`."""
        life = self._supervisors[address].life
        return None if life is None else life.adapter.model_of(life.address, adapter)

    async def find_adapters(self, address: str, known: Collection[Adapter]) -> frozenset[Adapter]:
        """See `Backend.find_adapters`."""
        life = self._alive(address)
        return await life.adapter.find_adapters(life.address, known)

    async def load_adapter(self, address: str, adapter: Adapter) -> None:
        """See `Backend.load_adapter`."""
        life = self._alive(address)
        await life.adapter.load_adapter(life.address, adapter)

    async def unload_adapter(self, address: str, adapter: Adapter) -> None:
        """See `Backend.unload_adapter`."""
        life = self._alive(address)
        await life.adapter.unload_adapter(life.address, adapter)

    async def _until_ready(self, address: str) -> None:
        """Until a request can be sent, also one for an adapter that is wanted only now."""
        await self._supervisors[address].until_ready(partial(self._take_adapters, address))

    async def _take_adapters(self, address: str) -> None:
        life = self._supervisors[address].life
        if life is not None and not all(self.has_adapter(address, one) for one in self._wanted):
            await life.take_adapters()

    def _claim(self, adapter: Backend) -> None:
        """What its engines can, as the adapter of one knows it."""
        self.capabilities, self.conditional = adapter.capabilities, adapter.conditional
        self.why_not = adapter.why_not

    def _alive(self, address: str) -> Life:
        supervisor = self._supervisors[address]
        if supervisor.life is None:
            reason = f"the engine is not ready: {supervisor.readiness.reason}"
            raise BackendError(Stage.CONNECT, Cause.REFUSED, reason)
        return supervisor.life

    async def stop(self) -> None:
        """Stop every engine, with its grace."""
        supervisors = self._supervisors.values()
        await asyncio.gather(*(one.stop() for one in supervisors))
        for supervisor in supervisors:
            if supervisor.residency is not None:
                supervisor.residency.leave(supervisor)
        for log in self._logs.values():
            log.close()
        if self._folder is not None:
            self._folder.close()

    def _supervise(self, address: str) -> Supervisor:
        def make_life(number: int) -> Life:
            assert self._folder is not None, "there is no life before start"
            socket, log = f"{address}-{number}.sock", self._logs[address]
            return Life(
                self.name,
                self._options,
                self._launch,
                self._folder,
                socket,
                log,
                wanted=lambda: self._wanted,
                withheld=self.withheld,
            )

        def tell(readiness: Readiness) -> None:
            if readiness.ready and (life := self._supervisors[address].life) is not None:
                self._claim(life.adapter)
            if self.on_change is not None:
                self.on_change(address, readiness)

        return Supervisor(
            f"{self.name}@{address}",
            self._launch,
            make_life,
            Restarts(random.uniform),
            tell,
            estimate=weights_size(self._launch.model),
        )

    @staticmethod
    def _wake(supervisor: Supervisor) -> bool:
        if supervisor.residency is not None:
            return supervisor.residency.admit_at_once(supervisor)
        supervisor.wake()
        return True


def _told(replica: str, life: Life, error: BackendError) -> BackendError:
    """`error` in words that say more than the socket of one life of the engine."""
    if isinstance(error, RequestRefused):
        return error
    if life.over:
        message = f"{replica}: the engine was stopped: {life.over}"
    else:
        message = error.message.replace(life.address, replica)
    return BackendError(error.stage, error.cause, message)


class _Counted:
    """A body whose end is told, and what breaks it in words of ours."""

    __slots__ = ("_body", "_end", "_told")

    def __init__(
        self,
        body: ByteStream,
        end: Callable[[], None],
        told: Callable[[BackendError], BackendError],
    ) -> None:
        self._body = body
        self._end = end
        self._told = told

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._body.__anext__()
        except BackendError as error:
            raise self._told(error) from error

    async def aclose(self) -> None:
        self._end()
        await self._body.aclose()


def weights_size(model: str) -> int:
    """Bytes of the files of a model; 0 for one that is not on this machine yet."""
    place = Path(model)
    try:
        if place.is_dir():
            return sum(file.stat().st_size for file in place.glob("*.safetensors"))
        return place.stat().st_size if place.is_file() else 0
    except OSError:
        return 0

"""Bring a changed routing.yaml into force: validated first, swapped whole, or not at all.

On SIGHUP and whenever the file changes. Requests in flight keep the snapshot they began with;
what that one alone needs is stopped when the last of them is done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from backends.base import Adapter
from backends.options import Discover, WeightedReplica
from gateway.config import Config, ConfigErrors, load
from gateway.config.adapters import locate, takes_adapters
from gateway.config.checks import is_open_to_others
from gateway.control.adapters import Adapters, Result, refusal
from gateway.control.engines import Engines, Opened, Plan, StartError
from gateway.control.health import HealthMonitor
from gateway.control.overlay import Change, Overlay, apply
from gateway.control.state import Snapshot, State
from gateway.errors import BadRequest, Conflict, NotFound

logger = logging.getLogger(__name__)

LOOK_EVERY = 1.0
"""Seconds between two looks at the file."""

LONGEST_TURN = 30.0
"""Seconds that a change may have to wait until another one is done."""

_AT_START_ONLY = ("server", "telemetry")
"""Sections whose parts are built once, when the gateway starts."""


class Reloader:
    """Watches one file and owns the swap."""

    def __init__(
        self,
        path: Path,
        env: Mapping[str, str],
        *,
        host: str,
        state: State,
        engines: Engines,
        health: HealthMonitor,
        adapters: Adapters,
        on_swap: Callable[[Config], None],
        look_every: float = LOOK_EVERY,
    ) -> None:
        """`host` is what the gateway listens on, whatever the file comes to say."""
        self._path = path
        self._env = env
        self._host = host
        self._state = state
        self._engines = engines
        self._health = health
        self._adapters = adapters
        self._written = state.snapshot.config
        """What the file says, without what the admin API has changed."""
        self._overlay = Overlay()
        self._swapping = asyncio.Lock()
        self._on_swap = on_swap
        self._look_every = look_every
        self._asked = asyncio.Event()
        self._seen = _fingerprint(path)
        self._retiring: set[asyncio.Task[None]] = set()
        self.last_succeeded = True
        """Whether the file as it was last read is in force."""

    def request(self) -> None:
        """Reload now, changed or not: what SIGHUP does."""
        self._asked.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await asyncio.wait_for(self._asked.wait(), self._look_every)
                asked = True
            except TimeoutError:
                asked = False
            self._asked.clear()
            seen = _fingerprint(self._path)
            # Editors replace a file: it may be gone for a moment, which is no news yet.
            if asked or (seen is not None and seen != self._seen):
                self._seen = seen
                try:
                    await self.reload()
                except Exception:
                    logger.exception(
                        "%s is not taken over; what was in force stays: the reload hit a bug",
                        self._path,
                    )

    async def reload(self) -> bool:
        """Read the file and bring it into force; False, and one line why, where it cannot be."""
        async with self._swapping:
            succeeded = False
            try:
                succeeded = await self._reload()
            finally:
                self.last_succeeded = succeeded
            return succeeded

    async def change_adapter(
        self, backend: str, name: str, path: str | None
    ) -> tuple[str | None, list[Result]]:
        """Give `backend` the adapter `name`, from `path`, or take it away where that is None.

        Returns the path as the engine was told it, and how it went on each replica that was asked.
        Raises `GatewayError`; then nothing has changed.
        """
        async with self._turn():
            where = await asyncio.to_thread(self._locate, backend, name, path)
            change = Change(backend, name)
            overlay = self._overlay.changed(change, where)
            why = apply(self._written, overlay).passed_over.get(change)
            if why is not None:
                raise Conflict(f"nothing has changed: that does not go with the file: {why}")
            try:
                results = await self._put_in_force(self._written, overlay, asked=backend)
            except StartError as error:
                raise Conflict(f"nothing has changed: {error}") from None
            return where, results

    async def change_replicas(
        self, backend: str, discover: Discover, replicas: Sequence[str | WeightedReplica]
    ) -> None:
        """Give `backend` the replicas that were found where `discover` says.

        Raises `GatewayError`; then nothing has changed.
        """
        async with self._turn():
            overlay = self._overlay.found(backend, discover, replicas)
            try:
                await self._put_in_force(self._written, overlay)
            except StartError as error:
                raise Conflict(str(error)) from None

    async def start(self, plan: Plan) -> None:
        """Start what the first configuration needs; changes wait for it. Raises `StartError`."""
        async with self._swapping:
            await self._engines.start(plan)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """The right to change what is in force. Raises `Conflict` where somebody else keeps it."""
        try:
            async with asyncio.timeout(LONGEST_TURN):
                await self._swapping.acquire()
        except TimeoutError:
            what = "engines are being started, or another change is under way: try again later"
            raise Conflict(what) from None
        try:
            yield
        finally:
            self._swapping.release()

    def _locate(self, backend: str, name: str, path: str | None) -> str | None:
        options = self._state.snapshot.config.backends.get(backend)
        if options is None:
            raise NotFound(f"no backend is called {backend!r}")
        if path is None:
            if name not in {one.name for one in options.loras}:
                raise NotFound(f"the backend {backend!r} has no adapter {name!r}")
            return None
        if not takes_adapters(options):
            raise Conflict(f"the engine of the backend {backend!r} has no adapters")
        try:
            return locate(options, path, self._path.parent.resolve(), self._env)
        except ValueError as error:
            raise BadRequest(str(error), param="path") from None

    def from_file(self, backend: str, adapter: Adapter) -> bool:
        """Whether `backend` has `adapter` by the file."""
        written = self._written.backends.get(backend)
        return written is not None and adapter in written.loras

    async def _reload(self) -> bool:
        try:
            written = await asyncio.to_thread(load, self._path, self._env)
        except ConfigErrors as errors:
            logger.error("%s is not taken over; what was in force stays:\n%s", self._path, errors)
            return False
        overlaid = apply(written, self._overlay)
        if is_open_to_others(overlaid.config, self._host):
            logger.error(
                "%s is not taken over; what was in force stays: it has no keys any more, but the "
                "gateway listens on %s, which other machines can reach",
                self._path,
                self._host,
            )
            return False
        try:
            await self._put_in_force(written, self._overlay)
        except StartError as error:
            logger.error("%s is not taken over; what was in force stays: %s", self._path, error)
            return False
        for change, why in overlaid.passed_over.items():
            logger.warning(
                "what was said at /admin about the adapter %r of the backend %r does not go with "
                "%s, which counts: %s",
                change.adapter,
                change.backend,
                self._path,
                why,
            )
        return True

    async def _put_in_force(
        self, written: Config, overlay: Overlay, asked: str | None = None
    ) -> list[Result]:
        """Start the engines of `written` with `overlay`, load its adapters, then swap.

        Returns how it went on the backends that have other adapters now; on the one that is `asked`
        for, also where all is in force already. Raises `StartError`; then nothing has changed.
        """
        config, force = apply(written, overlay).config, self._state.snapshot.config
        if config == force:
            if written is not self._written:
                logger.info("%s says nothing new", self._path)
            self._written, self._overlay = written, overlay
            try:
                return await self._adapters.load_ahead(self._engines.opened(asked))
            finally:
                self._adapters.decided()
        plan = await asyncio.to_thread(self._engines.plan, config)
        await self._engines.start(plan)
        try:
            results = await self._adapters.load_ahead(_with_new_adapters(plan, force))
            refused = refusal(results, _adapters_in(force))
            if refused is not None:
                raise StartError(refused)
        except BaseException:
            await self._engines.abandon(plan)
            raise
        finally:
            self._adapters.decided()
        self._swap(plan, written, overlay)
        self._adapters.note_faults(results)
        try:
            await self._health.look(self._state.snapshot.replicas)
        except Exception:
            logger.exception("%s is in force; the look at its replicas hit a bug", self._path)
        return results

    async def stop(self) -> None:
        """Give up what is still waiting to be retired; the engines' owner stops them all."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)

    def _swap(self, plan: Plan, written: Config, overlay: Overlay) -> None:
        before = self._state.swap(self._engines.commit(plan))
        read_anew = written is not self._written
        self._written, self._overlay = written, overlay
        self._want_adapters()
        task = asyncio.create_task(self._retire(before, plan))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        try:
            self._on_swap(plan.config)
        except Exception:
            logger.exception("%s is in force, but not in all its parts", self._path)
        for section in _AT_START_ONLY:
            if getattr(before.config, section) != getattr(plan.config, section):
                logger.warning("`%s` has changed: that takes a restart of the gateway", section)
        if read_anew:  # who changes something else says so
            models = len(plan.config.models)
            count = f"{models} model{'' if models == 1 else 's'}"
            logger.info("%s is in force: %s", self._path, count)
        if before.config.keys and not plan.config.keys:
            logger.warning("no `keys` are set any more: whoever reaches this address may ask")

    async def _retire(self, before: Snapshot, plan: Plan) -> None:
        await self._state.unused(before)
        self._want_adapters()
        await self._engines.stop(plan.retired)

    def _want_adapters(self) -> None:
        self._engines.want_adapters(one.config for one in self._state.live)


def _with_new_adapters(plan: Plan, force: Config) -> list[Opened]:
    """The backends of `plan` that want adapters which they do not have by `force`."""
    return [
        one
        for one in plan.opened.values()
        if one in plan.fresh or one.options.loras - force.backends[one.name].loras
    ]


def _adapters_in(config: Config) -> list[Adapter]:
    return [adapter for options in config.backends.values() for adapter in options.loras]


def _fingerprint(path: Path) -> tuple[int, int, int] | None:
    """What changes when the file does: a replaced symbolic link, as Kubernetes does it, too."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino

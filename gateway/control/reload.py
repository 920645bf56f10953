"""Bring a changed routing.yaml into force: validated first, swapped whole, or not at all.

On SIGHUP and whenever the file changes. Requests in flight keep the snapshot they began with;
what that one alone needs is stopped when the last of them is done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.config import Config, ConfigErrors, load
from gateway.config.checks import is_open_to_others
from gateway.control.engines import Engines, Plan, StartError
from gateway.control.health import HealthMonitor
from gateway.control.state import Snapshot, State

logger = logging.getLogger(__name__)

LOOK_EVERY = 1.0
"""Seconds between two looks at the file."""

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
        self._on_swap = on_swap
        self._look_every = look_every
        self._asked = asyncio.Event()
        self._seen = _fingerprint(path)
        self._retiring: set[asyncio.Task[None]] = set()

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
        try:
            config = await asyncio.to_thread(load, self._path, self._env)
        except ConfigErrors as errors:
            logger.error("%s is not taken over; what was in force stays:\n%s", self._path, errors)
            return False
        if config == self._state.snapshot.config:
            logger.info("%s says nothing new", self._path)
            return True
        if is_open_to_others(config, self._host):
            logger.error(
                "%s is not taken over; what was in force stays: it has no keys any more, but the "
                "gateway listens on %s, which other machines can reach",
                self._path,
                self._host,
            )
            return False
        try:
            plan = self._engines.plan(config)
            await self._engines.start(plan)
        except StartError as error:
            logger.error("%s is not taken over; what was in force stays: %s", self._path, error)
            return False
        self._swap(plan)
        await self._health.look(self._state.snapshot.replicas)
        return True

    async def stop(self) -> None:
        """Give up what is still waiting to be retired; the engines' owner stops them all."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)

    def _swap(self, plan: Plan) -> None:
        before = self._state.swap(self._engines.commit(plan))
        self._on_swap(plan.config)
        for section in _AT_START_ONLY:
            if getattr(before.config, section) != getattr(plan.config, section):
                logger.warning("`%s` has changed: that takes a restart of the gateway", section)
        task = asyncio.create_task(self._retire(before, plan))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        logger.info("%s is in force: %d models", self._path, len(plan.config.models))
        if before.config.keys and not plan.config.keys:
            logger.warning("no `keys` are set any more: whoever reaches this address may ask")

    async def _retire(self, before: Snapshot, plan: Plan) -> None:
        await self._state.unused(before)
        await self._engines.stop(plan.retired)


def _fingerprint(path: Path) -> tuple[int, int, int] | None:
    """What changes when the file does: a replaced symbolic link, as Kubernetes does it, too."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino

"""Watches one life of an engine while it serves: it dies, hangs, rests, or is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

import msgspec

from backends.launch.activity import Activity, Look
from backends.launch.doubt import Finding, look_closely
from backends.launch.life import Life
from backends.launch.resident import resident_bytes
from backends.options import Launch
from backends.process import Ended

logger = logging.getLogger(__name__)

_TICK = 1.0
"""Seconds between two looks."""
_MEASURE_EVERY = 15.0
_PROBE_TIME = (1.0, 30.0)
"""Seconds that a suspected engine has for one token, at least and at most."""


class Verdict(msgspec.Struct, frozen=True):
    """Why a life is over."""

    why: str
    wanted: bool = False
    """It ends because it was told to."""
    kill: bool = False
    """It would not listen."""
    hopeless: bool = False
    """The next one would end like this, until somebody mends it."""


class Watch:
    """One life's, run once."""

    def __init__(
        self,
        replica: str,
        life: Life,
        launch: Launch,
        activity: Activity,
        *,
        told: asyncio.Event,
        wanted: Callable[[], bool],
        unload: Callable[[], None],
        measured: Callable[[int], None],
    ) -> None:
        """`told` is set when there is something to look at; `wanted` says whether it goes on.

        `unload` is called, before anything else can happen, when it has rested for long enough.
        """
        self._replica = replica
        self._life = life
        self._launch = launch
        self._activity = activity
        self._told = told
        self._wanted = wanted
        self._unload = unload
        self._measured = measured
        self._doubt: asyncio.Task[Finding] | None = None
        self._doubted_at = 0.0
        self._measure_at = 0.0

    async def run(self) -> Verdict:
        """Until the life is over, or should be."""
        launch = self._launch
        tick = min(_TICK, launch.stall_timeout / 4, (launch.idle_unload or _TICK) / 4)
        ended = asyncio.create_task(self._life.process.wait())
        ended.add_done_callback(lambda _: self._told.set())
        try:
            while True:
                verdict = self._judge(ended)
                if verdict is not None:
                    return verdict
                await self._measure()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._told.wait(), tick)
                self._told.clear()
        finally:
            for task in (ended, self._doubt):
                if task is not None:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)

    def _judge(self, ended: asyncio.Task[Ended]) -> Verdict | None:
        """Whether it is over; looks more closely where there is doubt."""
        now = asyncio.get_running_loop().time()
        if ended.done():
            return Verdict(self._life.obituary(ended.result()))
        if not self._wanted():
            return Verdict("told to stop", wanted=True)
        if self._doubt is not None and self._doubt.done():
            found, self._doubt = self._doubt.result(), None
            if found.moves is False and self._activity.progress_at < self._doubted_at:
                return Verdict(f"hangs: {found.why_not}", kill=True)
            if found.moves:
                self._activity.progress(now)
        launch = self._launch
        look = self._activity.look(
            now, stall_timeout=launch.stall_timeout, idle_unload=launch.idle_unload
        )
        if look is Look.UNLOAD:
            logger.info("%s: nobody has asked for it for %g s", self._replica, launch.idle_unload)
            self._unload()
            return Verdict("stopping: nobody asked for it", wanted=True)
        if look is Look.PROBE and self._doubt is None:
            shortest, longest = _PROBE_TIME
            within = max(shortest, min(longest, launch.stall_timeout / 2))
            self._doubted_at = now
            self._doubt = asyncio.create_task(look_closely(self._life, within))
            self._doubt.add_done_callback(lambda _: self._told.set())
        return None

    async def _measure(self) -> None:
        now = asyncio.get_running_loop().time()
        pid = self._life.process.pid
        if pid is None or now < self._measure_at:
            return
        self._measure_at = now + _MEASURE_EVERY
        memory = await asyncio.to_thread(resident_bytes, pid)
        if memory is not None:
            self._measured(memory)

"""Keeps one replica's engine alive: starts it, watches it, starts it again, lets it sleep.

             ┌──────────── a request, room in memory ───────────┐
             │                                                  ▼
    asleep ◄─┴─ stopping ◄── idle, or room is wanted ── ready ◄─ starting ◄─┐
                   │                                      │         │       │ after a wait
                   ▼                                      └── died ─┴──► backing_off, crash_loop
                stopped

Rules of this file:

- One task goes through the phases; others only tell it what is wanted, and wait for changes.
- A death is known at once, from the process, and so is that the replica is not ready any more.
- Nothing is put to sleep that has a request running or pending: looked at and decided in one step.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from backends.base import BackendError, Cause, Stage, Supervised
from backends.launch.activity import Activity
from backends.launch.life import CommandMissingError, EngineFailedError, Life, LifeMaker
from backends.launch.phase import Phase
from backends.launch.residency import Residency
from backends.launch.restarts import LOOP_AFTER, Restarts
from backends.launch.watch import Verdict, Watch
from backends.options import Launch
from backends.readiness import Readiness

logger = logging.getLogger(__name__)

MAX_PENDING = 256
"""Requests that may wait for one replica to be ready."""
_PROGRESS_EVERY = 10.0
"""Seconds between two lines about an engine that is being started."""
_END_TIME = 30.0
"""Seconds beyond `stop_timeout` until an engine must be gone."""


class Supervisor:
    """The owner of one replica's engine. Whoever starts it must `stop` it."""

    def __init__(
        self,
        replica: str,
        launch: Launch,
        make_life: LifeMaker,
        restarts: Restarts,
        on_change: Callable[[Readiness], None],
        *,
        estimate: int = 0,
    ) -> None:
        """`estimate`: bytes it will hold, for as long as it has not been measured."""
        self.id = replica
        self.life: Life | None = None
        """The one that serves; None unless ready."""
        self.phase = Phase.STOPPED
        self.residency: Residency | None = None
        self._reason = "not started"
        self._launch = launch
        self._make_life = make_life
        self._restarts = restarts
        self._on_change = on_change
        self._activity = Activity(0.0)
        self._lives = 0
        self._begins = 0.0
        """When the latest life began, or the next one will."""
        self._start_took: float | None = None
        """Seconds that the last start took that came to something."""
        self._wanted = False
        self._closing = False
        self._measured: int | None = None
        self._estimate = estimate
        self._told = asyncio.Event()
        """Something is wanted of the task, or may have changed for it."""
        self._changed = asyncio.Event()
        self._admitting = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    # As a tenant

    @property
    def resident(self) -> bool:
        return self.phase not in (Phase.ASLEEP, Phase.STOPPED)

    @property
    def busy(self) -> bool:
        return self._activity.busy

    @property
    def starting(self) -> bool:
        return self.phase is Phase.STARTING

    @property
    def last_used(self) -> float:
        return self._activity.last_used

    @property
    def memory(self) -> int:
        return self._launch.memory or self._measured or self._estimate

    def wake(self) -> None:
        self._wanted = True
        if self.phase is Phase.ASLEEP:
            self._enter(Phase.STARTING, "starting")
        self._told.set()

    def go_to_sleep(self) -> None:
        assert not self.starting, "it starts"
        assert not self.busy, "it has a request running or pending"
        self._wanted = False
        if self.resident:
            self._enter(Phase.STOPPING, "making room for another engine")
        self._told.set()

    async def until_asleep(self) -> None:
        while self.resident and not self._wanted:
            await self._changed.wait()

    # As a replica

    @property
    def readiness(self) -> Readiness:
        """Whether it may take traffic; one that sleeps may."""
        return Readiness(self.phase.takes_traffic, self._reason, self.phase.condition)

    @property
    def supervised(self) -> Supervised:
        """How it is doing, for metrics."""
        return Supervised(str(self.phase), max(0, self._lives - 1), self._measured)

    def begin(self) -> Callable[[], None]:
        """Count a request that is sent now; to be called back, once or more, when it has ended."""
        loop = asyncio.get_running_loop()
        activity, over = self._activity, False
        activity.begin(loop.time())

        def end() -> None:
            nonlocal over
            if not over:
                over = True
                activity.end(loop.time())
                self._maybe_idle()

        return end

    async def until_ready(self, then: Callable[[], Awaitable[None]] | None = None) -> None:
        """Wait until a request can be sent, waking the engine if it sleeps; then for `then`.

        It is pending all that time: whoever sends it at once finds the engine still there. Raises
        `BackendError` if too many wait already, or it is not ready in time.
        """
        if self._activity.pending >= MAX_PENDING:
            raise self._not_ready(f"{MAX_PENDING} requests wait for it already")
        self._activity.pending += 1
        try:
            async with asyncio.timeout(self._launch.start_timeout):
                while self.phase is not Phase.READY:
                    await self._come_nearer()
                if then is not None:
                    await then()
        except TimeoutError:
            raise self._not_ready(f"is still {self.phase}: {self._reason}") from None
        finally:
            self._activity.pending -= 1
            self._maybe_idle()

    async def _come_nearer(self) -> None:
        if self._closing or self.phase in (Phase.CRASH_LOOP, Phase.STOPPED):
            raise self._not_ready(self._reason)
        if self.phase is not Phase.ASLEEP:
            await self._changed.wait()
            return
        async with self._admitting:
            if self.phase is not Phase.ASLEEP:
                return
            if self.residency is None:
                self.wake()
            else:
                await self.residency.admit(self)

    def _not_ready(self, why: str) -> BackendError:
        return BackendError(Stage.CONNECT, Cause.REFUSED, why, retry_after=self._ready_in())

    def _ready_in(self) -> float | None:
        """Seconds until it may be ready, where that can be told.

        From the next try, which is known, and from what the last start took.
        """
        left = self._begins - asyncio.get_running_loop().time()
        if self.phase in (Phase.BACKING_OFF, Phase.CRASH_LOOP):
            return max(left, 0.0) + (self._start_took or 0.0)
        if self.phase is Phase.STARTING and self._start_took is not None:
            left += self._start_took
            return left if left > 0 else None  # it takes longer this time
        return None

    # The task

    def start(self) -> None:
        """Begin, asleep; `wake` starts the engine."""
        self._activity = Activity(asyncio.get_running_loop().time())
        self._enter(Phase.ASLEEP, "asleep: the next request starts it")
        self._task = asyncio.create_task(self._run())

    async def settled(self) -> None:
        """Until an engine that was woken is ready, or had to go to sleep for another one.

        Raises `BackendError` if it only dies, or dies and starts for too long.
        """
        over = (Phase.READY, Phase.ASLEEP, Phase.CRASH_LOOP, Phase.STOPPED)
        longest = LOOP_AFTER * (self._launch.start_timeout + self._launch.stop_timeout + _END_TIME)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest):
                while self.phase not in over:
                    await self._changed.wait()
        if not self.phase.takes_traffic:
            raise self._not_ready(self._reason)

    async def stop(self) -> None:
        """Stop the engine, and never start it again. Idempotent."""
        if self._task is None:
            return
        self._closing = True
        self._told.set()
        await asyncio.wait([self._task], timeout=self._launch.stop_timeout + _END_TIME)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while not self._closing:
                if self._wanted:
                    await self._live()
                    continue
                self._enter(Phase.ASLEEP, "asleep: the next request starts it")
                self._note_idle()
                await self._told.wait()
                self._told.clear()
        finally:
            self._closing = True
            self._enter(Phase.STOPPED, "stopped")
            self._note_idle()

    async def _live(self) -> None:
        """One life, and the wait after it, if it ended by itself."""
        loop = asyncio.get_running_loop()
        self._lives += 1
        self._enter(Phase.STARTING, "starting")
        self._begins, served_from = loop.time(), None
        life: Life | None = None
        verdict = Verdict("its supervisor was ended", wanted=True, kill=True)
        try:
            life = self._make_life(self._lives)
            life.adapter.on_event = self._progress
            logger.info("%s: starting %s", self.id, self._launch.model)
            if await self._unless_told(life):
                served_from = loop.time()
                self._start_took = served_from - self._begins
                logger.info("%s: ready after %.1f s", self.id, self._start_took)
                self.life = life
                self._progress()
                self._enter(Phase.READY, "")
                verdict = await self._watched(life)
            else:
                verdict = Verdict("told to stop while it started", wanted=True)
        except EngineFailedError as error:
            hopeless = isinstance(error, CommandMissingError)
            verdict = Verdict(str(error), kill=True, hopeless=hopeless)
        except Exception:
            logger.exception("%s: the supervisor hit a bug", self.id)
            verdict = Verdict("the gateway failed to watch it", kill=True)
        finally:
            wait = self._after(verdict, served_from)
            if life is not None:
                life.over = verdict.why
                wait = max(wait, await self._end(life, verdict))
        if wait:
            await self._rest(wait)

    async def _end(self, life: Life, verdict: Verdict) -> float:
        """End a life; the seconds to wait where that hits a bug, which counts as one more death."""
        try:
            await life.end(kill=verdict.kill)
        except Exception:
            logger.exception("%s: the supervisor hit a bug", self.id)
            return self._after(Verdict("the gateway failed to end it"), None)
        return 0.0

    def _after(self, verdict: Verdict, served_from: float | None) -> float:
        """Say what follows the end of a life; the seconds until the next one."""
        if verdict.wanted:
            self._enter(Phase.STOPPING, verdict.why)
            return 0.0
        now = asyncio.get_running_loop().time()
        served = 0.0 if served_from is None else now - served_from
        wait = self._restarts.after_death(served, hopeless=verdict.hopeless)
        self._begins = now + wait
        phase = Phase.CRASH_LOOP if self._restarts.looping else Phase.BACKING_OFF
        often = self._restarts.looping and not verdict.hopeless
        again = f"{self._restarts.in_a_row} times in a row, " if often else ""
        logger.error("%s: %s; %snext try in %.1f s", self.id, verdict.why, again, wait)
        self._enter(phase, f"{phase}: {verdict.why}")
        return wait

    async def _unless_told(self, life: Life) -> bool:
        """Start `life`; False where something else is wanted before it is ready."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        starting = asyncio.create_task(life.start())
        starting.add_done_callback(lambda _: self._told.set())
        try:
            while not starting.done():
                try:
                    await asyncio.wait_for(self._told.wait(), _PROGRESS_EVERY)
                except TimeoutError:
                    logger.info("%s: still starting after %.0f s", self.id, loop.time() - began)
                self._told.clear()
                if self._closing or not self._wanted:
                    return False
            starting.result()
            return True
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)

    async def _watched(self, life: Life) -> Verdict:
        """Until the life is over, or should be."""
        watch = Watch(
            self.id,
            life,
            self._launch,
            self._activity,
            told=self._told,
            wanted=lambda: self._wanted and not self._closing,
            unload=self._unload,
            measured=self._take_measure,
        )
        return await watch.run()

    def _unload(self) -> None:
        self._wanted = False
        self._enter(Phase.STOPPING, "stopping: nobody asked for it")

    def _take_measure(self, memory: int) -> None:
        self._measured = memory

    async def _rest(self, seconds: float) -> None:
        """Wait before the next try, unless something else is wanted."""
        loop = asyncio.get_running_loop()
        self._begins = until = loop.time() + seconds
        while self._wanted and not self._closing and loop.time() < until:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), until - loop.time())
            self._told.clear()

    def _progress(self) -> None:
        self._activity.progress(asyncio.get_running_loop().time())

    def _enter(self, phase: Phase, reason: str) -> None:
        started = self.phase is Phase.STARTING and phase is not Phase.STARTING
        self.phase, self._reason = phase, reason
        if phase is not Phase.READY:
            self.life = None  # from this moment on, no request is sent to it
        self._on_change(self.readiness)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        if started:
            self._maybe_idle()

    def _maybe_idle(self) -> None:
        if not self.busy:
            self._note_idle()

    def _note_idle(self) -> None:
        if self.residency is not None:
            self.residency.changed()

"""One engine in this process, as the event loop sees it: what is asked of its thread, and told.

Rules of this file:

- Everything here runs in the event loop, and nothing waits but `start`, `stop` and `run`.
- The runtime is its thread's (`EngineThread`); what both touch is in `EngineState`, under its lock.
- Whatever is queued is answered, also where the thread no longer comes back.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import partial
from time import monotonic

from backends.base import BackendError, Cause, RequestRefused, Stage
from backends.inprocess.engine_state import EngineState
from backends.inprocess.engine_thread import EngineThread
from backends.inprocess.job import Job
from backends.inprocess.runtime import Runtime
from backends.inprocess.threads import OwnerThreads, owner_threads
from backends.inprocess.work import Pieces, T, Work, at_once
from backends.load import Load
from backends.readiness import Readiness

logger = logging.getLogger(__name__)


class Engine:
    """Owns the thread, the queue in front of it, and through them the batch.

    `library` is what its errors call it: `MLX`. `load_runtime` is called in the thread; it
    blocks, and may raise `BackendError`.
    """

    def __init__(
        self,
        library: str,
        load_runtime: Callable[[], Runtime],
        *,
        max_batch: int,
        max_waiting: int,
        queue_timeout: float = 45.0,
        stall_timeout: float = 60.0,
        stop_timeout: float = 10.0,
        clock: Callable[[], float] = monotonic,
        threads: OwnerThreads | None = None,
    ) -> None:
        """Times are in seconds.

        `queue_timeout` is how long a job may wait for its first place; `stall_timeout`, how long
        one step may take before the engine counts as hung; `stop_timeout`, how long `stop` waits.
        """
        self._library = library
        self._load_runtime = load_runtime
        self.capacity = max_batch + max_waiting
        """How many sequences can be here at the same time."""
        self._stall_timeout = stall_timeout
        self._stop_timeout = stop_timeout
        self._clock = clock
        self._threads = threads or owner_threads()
        self._state = EngineState(library, max_batch=max_batch, queue_timeout=queue_timeout)
        self._over: threading.Event | None = None
        """The thread has let go of the engine."""

    def load(self) -> Load:
        """How busy the engine is."""
        with self._state.changed:
            return self._state.load(self._clock())

    def health(self) -> Readiness:
        """Whether the engine generates."""
        with self._state.changed:
            down, began = self._state.down, self._state.step_began
        if down:
            return Readiness(ready=False, reason=down)
        if began is not None and (silent := self._clock() - began) > self._stall_timeout:
            return Readiness(ready=False, reason=f"no token for {silent:.0f} s")
        return Readiness(ready=True)

    async def start(self) -> Runtime:
        """Load the model in the thread; raises `BackendError`.

        Of what comes back, only what is read-only may be used in other threads.
        """
        self._state.loop = asyncio.get_running_loop()
        loaded: asyncio.Future[Runtime] = self._state.loop.create_future()
        self._state.set_down("the model is loading")
        thread = EngineThread(self._state, self._load_runtime, self._clock)
        self._over = self._threads.start(f"{self._library}-engine", partial(thread.run, loaded))
        return await loaded

    async def until_dead(self) -> str:
        """Wait until the thread has ended without being told to, and give why.

        Such an engine never generates again; one that was stopped is not waited for.
        """
        await self._state.died.wait()
        return self.health().reason or "the engine's thread died"

    async def stop(self) -> None:
        """Cut what is open and end the thread; a thread that hangs is left behind. Idempotent."""
        with self._state.changed:
            self._state.stopping = True
            self._state.changed.notify_all()
        if self._over is None or await asyncio.to_thread(self._over.wait, self._stop_timeout):
            return
        reason = f"the engine hangs: it has not stopped within {self._stop_timeout:g} s"
        logger.error("%s: %s; its thread and its memory stay", self._library, reason)
        self._state.shut(reason)

    def submit(self, job: Job) -> None:
        """Queue a job's rows, and take them from it.

        Raises `RequestRefused` when too many wait already.
        """
        count = len(job.rows)
        job.unfinished = count
        try:
            with self._state.changed:
                self._check_room(count)
                self._state.add(job, self._clock())
                self._state.changed.notify_all()
        finally:
            job.rows = []

    async def run(self, function: Callable[[Runtime], T]) -> T:
        """What `function` returns, called in the engine's thread between two steps.

        It holds up every sequence for as long as it takes. Raises as `run_pieces`.
        """
        return await self.run_pieces(at_once(function))

    async def run_pieces(self, function: Callable[[Runtime], Pieces[T]]) -> T:
        """What `function` comes to, which does a piece between two steps wherever it yields.

        Raises `RequestRefused` when too much waits already, and `BackendError` for whatever it
        raises itself. Cancelled, it does no further piece.
        """
        state = self._state
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        work = Work(self._library, function, result)
        with state.changed:
            self._check_room(1)
            state.works.append(work)
            state.changed.notify_all()
        try:
            return await result
        finally:
            with state.changed:
                if work in state.works:
                    state.works.remove(work)

    def cancel(self, job: Job) -> None:
        """End a job; its rows leave the queue now and the batch before the next step."""
        with self._state.changed:
            if job.over or self._state.down:
                return
            self._state.retire(job)
            self._state.changed.notify_all()

    def _check_room(self, count: int) -> None:
        """Refuse what would be too much, with the lock held."""
        state = self._state
        if state.down:
            raise BackendError(Stage.CONNECT, Cause.ENGINE, f"{self._library}: {state.down}")
        if state.here + count > self.capacity:
            raise RequestRefused(
                429,
                f"the engine is full: {state.here} sequences run or wait, and {self.capacity} "
                "can; try again shortly",
                code="engine_overloaded",
                retry_after=state.waiting.advice(),
            )

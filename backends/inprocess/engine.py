"""The one thread that touches an engine in this process: jobs in, pieces of their answers out.

Rules of this file:

- The runtime is called by `_run` and what it calls, in the engine's thread, and nowhere else.
- What both threads touch is guarded by `_changed`; nothing slow happens while it is held.
- A job ends once: with the last delta of its last row, with a failure, or by `cancel`. Its rows
  leave the batch before the next step.
- Other work (`run`) is done between two steps, one piece at a time.
- What a step produced crosses to the event loop in one call, however many jobs it is for.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from time import monotonic
from typing import Any

from backends.base import BackendError, Cause, Load, Readiness, RequestRefused, Stage
from backends.inprocess.admission import Admission
from backends.inprocess.failures import said
from backends.inprocess.job import Job, Piece, Row
from backends.inprocess.queue import WaitQueue
from backends.inprocess.runtime import CacheCounts, Runtime, Token
from backends.inprocess.threads import OwnerThreads, owner_threads
from backends.inprocess.work import T, Work

STALLED_AFTER = 60.0
"""Seconds one step may take before the engine counts as hung."""
_STOP_TIMEOUT = 10.0


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
        clock: Callable[[], float] = monotonic,
        threads: OwnerThreads | None = None,
    ) -> None:
        """`queue_timeout` is how many seconds a job may wait for its first place."""
        self._library = library
        self._load_runtime = load_runtime
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._queue_timeout = queue_timeout
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads = threads or owner_threads()
        self._over: threading.Event | None = None
        """The thread has let go of the engine."""
        self._changed = threading.Condition()
        # Guarded by `_changed`:
        self._waiting = WaitQueue(queue_timeout)
        self._admission = Admission(max_batch)
        self._cache = CacheCounts()
        self._works: deque[Work[Any]] = deque()
        self._stopping = False
        self._sweep = False
        """Some job in the batch is over: its rows must leave."""
        self._down = "not started"
        """Why nothing can be generated; empty while all is well."""
        self._step_began: float | None = None
        self._steps = 0
        # The engine thread's own:
        self._rows: dict[int, Row] = {}

    @property
    def capacity(self) -> int:
        """How many sequences can be here at the same time."""
        return self._max_batch + self._max_waiting

    def load(self) -> Load:
        """How busy the engine is."""
        with self._changed:
            queue, cache = self._waiting, self._cache
            return Load(
                running=self._admission.running,
                waiting=len(queue),
                longest_wait=queue.longest_wait(self._clock()),
                waits=queue.waits,
                waited=queue.waited,
                kv_tokens=self._admission.used,
                kv_planned=self._admission.planned,
                cache_queries=cache.queries,
                cache_hits=cache.hits,
                cache_bytes=cache.nbytes,
                steps=self._steps,
            )

    def health(self) -> Readiness:
        """Whether the engine generates."""
        with self._changed:
            down, began = self._down, self._step_began
        if down:
            return Readiness(ready=False, reason=down)
        if began is not None and (silent := self._clock() - began) > STALLED_AFTER:
            return Readiness(ready=False, reason=f"no token for {silent:.0f} s")
        return Readiness(ready=True)

    async def start(self) -> Runtime:
        """Load the model in the thread; raises `BackendError`.

        Of what comes back, only what is read-only may be used in other threads.
        """
        self._loop = asyncio.get_running_loop()
        loaded: asyncio.Future[Runtime] = self._loop.create_future()
        self._set_down("the model is loading")
        self._over = self._threads.start(f"{self._library}-engine", partial(self._run, loaded))
        return await loaded

    async def stop(self) -> None:
        """Cut what is open and end the thread. Idempotent."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._over is not None:
            await asyncio.to_thread(self._over.wait, _STOP_TIMEOUT)

    def submit(self, job: Job) -> None:
        """Queue a job's rows; raises `RequestRefused` when too many wait already."""
        count = len(job.rows)
        job.unfinished = count
        with self._changed:
            self._check_room(count)
            self._waiting.add(job, self._clock())
            self._changed.notify_all()

    async def run(self, function: Callable[[Runtime], T]) -> T:
        """What `function` returns, called in the engine's thread between two steps.

        It holds up every sequence for as long as it takes. Raises `RequestRefused` when too much
        waits already, and `BackendError` for whatever it raises itself. Cancelled while it waits,
        it is not called.
        """
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        work = Work(self._library, function, result)
        with self._changed:
            self._check_room(1)
            self._works.append(work)
            self._changed.notify_all()
        try:
            return await result
        finally:
            with self._changed:
                if work in self._works:
                    self._works.remove(work)

    def _check_room(self, count: int) -> None:
        """Refuse what would be too much, with `_changed` held."""
        if self._down:
            raise BackendError(Stage.CONNECT, Cause.ENGINE, f"{self._library}: {self._down}")
        here = self._admission.running + len(self._waiting) + len(self._works)
        if here + count > self.capacity:
            raise RequestRefused(
                429,
                f"the engine is full: {here} sequences run or wait, and {self.capacity} can; "
                "try again shortly",
                code="engine_overloaded",
                retry_after=self._waiting.advice(),
            )

    def cancel(self, job: Job) -> None:
        """End a job; its rows leave the queue now and the batch before the next step."""
        with self._changed:
            if job.over or self._down:
                return
            self._retire(job)
            self._changed.notify_all()

    # ---- in the engine's thread ----

    def _run(self, loaded: asyncio.Future[Runtime]) -> None:
        try:
            runtime = self._load_runtime()
        except BaseException as error:  # a thread has no caller to raise to
            self._set_down(said(error))
            self._call(_settle, loaded, self._not_started(error))
            return
        with self._changed:
            self._admission = Admission(self._max_batch, runtime.kv)
            self._down = ""
        self._call(_settle, loaded, runtime)
        del loaded  # which holds the runtime
        reason = "the engine has been stopped"
        try:
            while self._take(runtime):
                self._work(runtime)
                self._step(runtime)
        except BaseException as error:  # as above
            reason = f"the engine's thread died: {error!r}"
        self._end(reason)
        runtime.close()

    def _take(self, runtime: Runtime) -> bool:
        """Wait for work and bring the batch up to date; False when it is time to go."""
        with self._changed:
            while not self._has_something_to_do():
                self._changed.wait()
            if self._stopping:
                return False
            over: list[int] = []
            if self._sweep:
                self._sweep = False
                over = [uid for uid, row in self._rows.items() if row.job.over]
        self._leave(runtime, over)
        with self._changed:
            now = self._clock()
            late = self._waiting.expire(now)
            for job in late:
                job.over = True
            arrived = self._admit(now)
        if late:
            self._deliver([(job, self._waited_too_long()) for job in late])
        for row in arrived:
            self._insert(runtime, row)
        return True

    def _admit(self, now: float) -> list[Row]:
        """Give places to those that wait, with `_changed` held, as long as the next one fits."""
        arrived: list[Row] = []
        while (head := self._waiting.head()) is not None:
            if not self._admission.fits(head.spec.most_tokens):
                break
            self._admission.reserve(head.spec.most_tokens)
            arrived.append(self._waiting.pop(now))
        return arrived

    def _free(self, rows: Iterable[Row]) -> None:
        """Give the places of `rows` back, with `_changed` held."""
        for row in rows:
            self._admission.release(row.spec.most_tokens)

    def _waited_too_long(self) -> RequestRefused:
        return RequestRefused(
            429,
            f"the engine is full: no place became free in {self._queue_timeout:g} s; "
            "try again later",
            code="engine_overloaded",
            retry_after=self._waiting.advice(),
        )

    def _has_something_to_do(self) -> bool:
        return bool(self._rows or self._waiting or self._works or self._sweep or self._stopping)

    def _work(self, runtime: Runtime) -> None:
        """Do one piece of other work: one a step, so that nobody's next token waits for many."""
        with self._changed:
            work = self._works.popleft() if self._works else None
        if work is None:
            return
        self._mark_step(self._clock())
        try:
            settle = work.call(runtime)
        finally:
            self._mark_step(None)
        with self._changed:
            self._steps += 1
        self._call(settle)

    def _insert(self, runtime: Runtime, row: Row) -> None:
        with self._changed:
            if row.job.over:  # cancelled, or another of its rows failed, since it was taken
                self._free([row])
                return
        try:
            uid = runtime.insert(row.spec, row.failed)
        except Exception as error:  # from the runtime: it concerns this job alone
            with self._changed:
                self._free([row])
            self._deliver([(row.job, self._fail(row.job, error))])
            return
        self._rows[uid] = row
        row.cached = runtime.cached_tokens(uid)
        self._cache = runtime.cache_counts

    def _step(self, runtime: Runtime) -> None:
        if not self._rows:
            return
        self._mark_step(self._clock())
        try:
            tokens = runtime.step()
        except Exception as error:  # from the runtime: nobody knows which row it was
            self._drop_batch(runtime, error)
            return
        finally:
            self._mark_step(None)
        with self._changed:
            self._steps += 1
        out: list[tuple[Job, Piece]] = []
        gone: list[int] = []
        for token in tokens:
            row = self._rows.get(token.uid)
            if row is not None and self._advance(row, token, out):
                gone.append(token.uid)
        self._leave(runtime, gone)
        if out:
            self._deliver(out)

    def _advance(self, row: Row, token: Token, out: list[tuple[Job, Piece]]) -> bool:
        """Give a row its token; whether that was its last."""
        job = row.job
        with self._changed:
            if job.over:
                return True
        try:
            if row.fault is not None:
                raise row.fault
            delta = row.text.add(
                token.token, ended=token.ended, cut=token.cut, logprobs=token.logprobs
            )
        except Exception as error:  # it concerns this job alone
            out.append((job, self._fail(job, error)))
            return True
        if delta.finish is not None:
            out.append((job, [*row.kept, delta]))
            self._finish_row(job)
            return True
        if delta.says_something:
            if job.stream:
                out.append((job, (delta,)))
            else:
                row.kept.append(delta)
        return False

    def _finish_row(self, job: Job) -> None:
        """Count a row as ended. A job that is over stays so: `cancel` may have come meanwhile."""
        job.unfinished -= 1
        if not job.unfinished:
            with self._changed:
                job.over = True

    def _leave(self, runtime: Runtime, uids: Sequence[int]) -> None:
        """Take rows out of the batch, also those that it has already ended itself."""
        if not uids:
            return
        runtime.remove(uids)
        self._cache = runtime.cache_counts
        rows = [self._rows.pop(uid) for uid in uids]
        with self._changed:
            self._free(rows)

    def _drop_batch(self, runtime: Runtime, error: Exception) -> None:
        """Fail all that was in the batch, and begin a new one for what waits."""
        with self._changed:
            jobs = _open_jobs(self._rows.values())
        self._deliver([(job, self._fail(job, error)) for job in jobs])
        with self._changed:
            self._free(self._rows.values())
        self._rows.clear()
        runtime.reset()
        self._cache = runtime.cache_counts

    def _fail(self, job: Job, error: Exception) -> BackendError:
        with self._changed:
            self._retire(job)
        return BackendError(
            Stage.SENT, Cause.ENGINE, f"{self._library} could not generate: {said(error)}"
        )

    def _retire(self, job: Job) -> None:
        """Mark a job as over, with `_changed` held: what waits goes now, the rest is swept."""
        job.over = True
        self._waiting.drop(job)
        self._sweep = True

    def _end(self, reason: str) -> None:
        """Fail all that is left; nothing can be submitted from here on."""
        with self._changed:
            self._down = reason
            jobs = _open_jobs([*self._rows.values(), *self._waiting])
            for job in jobs:
                job.over = True
            self._waiting.clear()
            works = list(self._works)
            self._works.clear()
            self._admission.clear()
        self._rows.clear()
        error = BackendError(Stage.SENT, Cause.ENGINE, f"{self._library}: {reason}")
        self._deliver([(job, error) for job in jobs])
        for work in works:
            self._call(work.fail, error)

    def _not_started(self, error: BaseException) -> BackendError:
        if isinstance(error, BackendError):
            return error
        message = f"{self._library} could not be started: {error!r}"
        return BackendError(Stage.CONNECT, Cause.ENGINE, message)

    def _set_down(self, reason: str) -> None:
        with self._changed:
            self._down = reason

    def _mark_step(self, began: float | None) -> None:
        with self._changed:
            self._step_began = began

    def _deliver(self, out: Sequence[tuple[Job, Piece]]) -> None:
        self._call(_hand_over, out)

    def _call(self, function: Callable[..., None], *args: object) -> None:
        if (loop := self._loop) is None:
            return
        try:
            loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop is closed: nobody is left to listen
            with self._changed:
                self._stopping = True


def _open_jobs(rows: Iterable[Row]) -> list[Job]:
    """The jobs of `rows` that are not over, each once."""
    return list({id(row.job): row.job for row in rows if not row.job.over}.values())


def _hand_over(out: Sequence[tuple[Job, Piece]]) -> None:
    for job, piece in out:
        job.sink(piece)


def _settle(loaded: asyncio.Future[Runtime], result: Runtime | BackendError) -> None:
    if loaded.done():  # whoever started the engine has gone
        return
    if isinstance(result, BackendError):
        loaded.set_exception(result)
    else:
        loaded.set_result(result)

"""The one thread that touches an engine in this process: jobs in, pieces of their answers out.

Rules of this file:

- The runtime is called here, in the engine's thread, and nowhere else; each call is marked as a
  step, so that one that does not come back shows.
- A job ends once: with the last delta of its last row, with a failure, or by `cancel`. Its rows
  leave the batch before the next step.
- What a step produced is delivered whatever happens next, and a runtime that fails between two
  steps is treated as one whose step failed: the batch is given up, and a new one begun.
- Other work is done between two steps, one piece at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from backends.base import BackendError, Cause, RequestRefused, Stage
from backends.inprocess.engine_state import EngineState
from backends.inprocess.failures import said
from backends.inprocess.job import Job, Piece, Row
from backends.inprocess.runtime import Runtime, Token

logger = logging.getLogger(__name__)


class EngineThread:
    """What the thread does: `run` is its whole life.

    `load_runtime` blocks, and may raise `BackendError`.
    """

    def __init__(
        self, state: EngineState, load_runtime: Callable[[], Runtime], clock: Callable[[], float]
    ) -> None:
        self._state = state
        self._load_runtime = load_runtime
        self._clock = clock
        self._rows: dict[int, Row] = {}
        """The batch, by the runtime's ids."""

    def run(self, loaded: asyncio.Future[Runtime]) -> None:
        """Load the model, tell `loaded`, and generate until told to stop."""
        state = self._state
        try:
            runtime = self._load_runtime()
        except BaseException as error:  # a thread has no caller to raise to
            state.set_down(said(error))
            state.call(_settle, loaded, self._not_started(error))
            return
        state.ready(runtime.kv)
        state.call(_settle, loaded, runtime)
        del loaded  # which holds the runtime
        reason = "the engine has been stopped"
        try:
            while self._take(runtime):
                self._work(runtime)
                self._step(runtime)
        except BaseException as error:  # as above
            reason = f"the engine's thread died: {error!r}"
            logger.critical(
                "%s: the engine's thread died: this process generates nothing any more with this "
                "model; start it again",
                state.library,
                exc_info=True,
            )
            state.shut(reason)
            state.call(state.died.set)
        state.shut(reason)
        self._rows.clear()
        with state.changed:
            state.admission.clear()
        runtime.close()

    # ---- between two steps ----

    def _take(self, runtime: Runtime) -> bool:
        """Wait for work and bring the batch up to date; False when it is time to go."""
        state = self._state
        with state.changed:
            while not self._has_something_to_do():
                state.changed.wait()
            if state.stopping:
                return False
            over: list[int] = []
            if state.sweep:
                state.sweep = False
                over = [uid for uid, row in self._rows.items() if row.job.over]
        self._leave(runtime, over)
        with state.changed:
            now = self._clock()
            late = state.waiting.expire(now)
            for job in late:
                state.end(job)
            refusal = self._waited_too_long() if late else None
            arrived = self._admit(now)
        if refusal is not None:
            state.deliver([(job, refusal) for job in late])
        for row in arrived:
            self._insert(runtime, row)
        return True

    def _has_something_to_do(self) -> bool:
        state = self._state
        return bool(self._rows or state.waiting or state.works or state.sweep or state.stopping)

    def _admit(self, now: float) -> list[Row]:
        """Give places to those that wait, with `changed` held, as long as the next one fits."""
        state = self._state
        arrived: list[Row] = []
        while (head := state.waiting.head()) is not None:
            if not state.admission.fits(head.spec.most_tokens):
                break
            state.admission.reserve(head.spec.most_tokens)
            arrived.append(state.waiting.pop(now))
        return arrived

    def _waited_too_long(self) -> RequestRefused:
        return RequestRefused(
            429,
            f"the engine is full: no place became free in {self._state.queue_timeout:g} s; "
            "try again later",
            code="engine_overloaded",
            retry_after=self._state.waiting.advice(),
        )

    def _insert(self, runtime: Runtime, row: Row) -> None:
        state = self._state
        with state.changed:
            if row.job.over:  # cancelled, or another of its rows failed, since it was taken
                state.free([row])
                return
        try:
            with self._marked():
                uid = runtime.insert(row.spec, row.failed)
        except Exception as error:  # from the runtime: it concerns this job alone
            with state.changed:
                state.free([row])
            state.deliver([(row.job, self._fail_one(row.job, error))])
            return
        row.let_go_of_pictures()
        self._rows[uid] = row
        row.job.note_cached(row.spec.prompt, runtime.cached_tokens(uid))
        with state.changed:
            state.cache = runtime.cache_counts

    def _work(self, runtime: Runtime) -> None:
        """Do one piece of other work: one a step, so that nobody's next token waits for many."""
        state = self._state
        with state.changed:
            # It stays there until it is done: whatever ends the thread meanwhile, it is told.
            state.doing = work = state.works.popleft() if state.works else None
        if work is None:
            return
        with self._marked():
            settle = work.advance(runtime)
        with state.changed:
            state.doing = None
            state.steps += 1
            if settle is None and not work.result.done():  # cancelled: nobody waits for the rest
                state.works.appendleft(work)
        if settle is not None:
            state.call(settle)

    # ---- a step ----

    def _step(self, runtime: Runtime) -> None:
        if not self._rows:
            return
        try:
            with self._marked():
                tokens = runtime.step()
        except Exception as error:  # from the runtime: nobody knows which row it was
            self._drop_batch(runtime, error)
            return
        with self._state.changed:
            self._state.steps += 1
        out: list[tuple[Job, Piece]] = []
        gone: list[int] = []
        for token in tokens:
            row = self._rows.get(token.uid)
            if row is not None and self._advance(row, token, out):
                gone.append(token.uid)
        self._leave(runtime, gone, out)

    def _advance(self, row: Row, token: Token, out: list[tuple[Job, Piece]]) -> bool:
        """Give a row its token; whether that was its last."""
        job = row.job
        with self._state.changed:
            if job.over:
                return True
        if row.fault is not None:  # not raised: it would hold the row, and the row it
            out.append((job, self._fail_one(job, row.fault)))
            return True
        try:
            delta = row.text.add(
                token.token, ended=token.ended, cut=token.cut, logprobs=token.logprobs
            )
        except Exception as error:  # it concerns this job alone
            out.append((job, self._fail_one(job, error)))
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
            with self._state.changed:
                self._state.end(job)

    def _leave(
        self, runtime: Runtime, uids: Sequence[int], out: Sequence[tuple[Job, Piece]] = ()
    ) -> None:
        """Take rows out of the batch, also those that it has already ended itself.

        `out` is delivered then, so that whoever hears of an end finds its place free.
        """
        state = self._state
        failure: Exception | None = None
        try:
            if uids:
                with self._marked():
                    runtime.remove(uids)
                rows = [self._rows.pop(uid) for uid in uids]
                with state.changed:
                    state.free(rows)
                    state.cache = runtime.cache_counts
        except Exception as error:  # from the runtime: nobody knows what is left of the batch
            failure = error
        finally:
            state.deliver(out)
        if failure is not None:
            self._drop_batch(runtime, failure)

    def _drop_batch(self, runtime: Runtime, error: Exception) -> None:
        """Fail all that is in the batch, and begin a new one for what waits.

        A runtime that cannot begin anew raises, and that ends the thread.
        """
        state = self._state
        rows = list(self._rows.values())
        with state.changed:
            jobs = list({row.job: None for row in rows if not row.job.over})
            for job in jobs:
                state.retire(job)
            state.free(rows)
        self._rows.clear()
        logger.error(
            "%s: the batch failed, with %d requests in it", state.library, len(jobs),
            exc_info=error,
        )  # fmt: skip
        failure = self._failure(error)
        state.deliver([(job, failure) for job in jobs])
        with self._marked():
            runtime.reset()
        with state.changed:
            state.cache = runtime.cache_counts

    # ---- failures ----

    def _fail_one(self, job: Job, error: Exception) -> BackendError:
        with self._state.changed:
            self._state.retire(job)
        logger.warning("%s: a request failed", self._state.library, exc_info=error)
        return self._failure(error)

    def _failure(self, error: Exception) -> BackendError:
        return BackendError(
            Stage.SENT, Cause.ENGINE, f"{self._state.library} could not generate: {said(error)}"
        )

    def _not_started(self, error: BaseException) -> BackendError:
        if isinstance(error, BackendError):
            return error
        logger.error("%s could not be started", self._state.library, exc_info=error)
        message = f"{self._state.library} could not be started: {error!r}"
        return BackendError(Stage.CONNECT, Cause.ENGINE, message)

    @contextmanager
    def _marked(self) -> Iterator[None]:
        """The runtime is called."""
        self._state.mark_step(self._clock())
        try:
            yield
        finally:
            self._state.mark_step(None)


def _settle(loaded: asyncio.Future[Runtime], result: Runtime | BackendError) -> None:
    if loaded.done():  # whoever started the engine has gone
        return
    if isinstance(result, BackendError):
        loaded.set_exception(result)
    else:
        loaded.set_result(result)

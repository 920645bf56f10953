"""What the event loop and the engine's thread both touch: who waits, who runs, how it goes.

Rules of this file:

- Everything is guarded by `changed`, and nothing slow happens while it is held. Methods that say so
  want it held already; the others take it themselves.
- A job is in `jobs` from when it is queued until it is over; whoever ends it, takes it out there.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from backends.base import BackendError, Cause, Stage
from backends.inprocess.admission import Admission
from backends.inprocess.job import Job, Piece, Row
from backends.inprocess.queue import WaitQueue
from backends.inprocess.runtime import CacheCounts, KvPlan
from backends.inprocess.work import Work
from backends.load import Load


class EngineState:
    """Shared by an `Engine` and its thread. `library` is what its errors call it.

    `queue_timeout` is how many seconds a job may wait for its first place.
    """

    def __init__(self, library: str, *, max_batch: int, queue_timeout: float) -> None:
        self.library = library
        self._max_batch = max_batch
        self.queue_timeout = queue_timeout
        self.loop: asyncio.AbstractEventLoop | None = None
        """Where the jobs come from; set once, before the thread begins."""
        self.changed = threading.Condition()
        self.waiting = WaitQueue(queue_timeout)
        self.admission = Admission(max_batch)
        self.jobs: dict[Job, None] = {}
        """Those that are not over, in the order of their arrival."""
        self.works: deque[Work[Any]] = deque()
        self.doing: Work[Any] | None = None
        """The other work of which a piece is under way."""
        self.cache = CacheCounts()
        self.stopping = False
        self.sweep = False
        """Some job in the batch is over: its rows must leave."""
        self.down = "not started"
        """Why nothing can be generated; empty while all is well."""
        self.step_began: float | None = None
        """When the runtime was called that has not come back yet."""
        self.steps = 0
        self.died = asyncio.Event()
        """The thread has ended without being told to; the event loop's."""

    # ---- with `changed` held ----

    @property
    def here(self) -> int:
        """How many sequences run or wait, other work counted as one each."""
        return self.admission.running + len(self.waiting) + len(self.works)

    def load(self, now: float) -> Load:
        """How busy the engine is."""
        queue, cache = self.waiting, self.cache
        return Load(
            running=self.admission.running,
            waiting=len(queue),
            longest_wait=queue.longest_wait(now),
            waits=queue.waits,
            waited=queue.waited,
            kv_tokens=self.admission.used,
            kv_planned=self.admission.planned,
            cache_queries=cache.queries,
            cache_hits=cache.hits,
            cache_bytes=cache.nbytes,
            steps=self.steps,
        )

    def add(self, job: Job, now: float) -> None:
        """Let a job wait."""
        self.jobs[job] = None
        self.waiting.add(job, now)

    def end(self, job: Job) -> None:
        """Nothing more comes for a job, or is wanted."""
        job.over = True
        self.jobs.pop(job, None)

    def retire(self, job: Job) -> None:
        """End a job whose rows are still here: what waits goes now, the rest is swept."""
        self.end(job)
        self.waiting.drop(job)
        self.sweep = True

    def free(self, rows: Iterable[Row]) -> None:
        """Give the places of `rows` back."""
        for row in rows:
            self.admission.release(row.spec.most_tokens)

    # ---- from any thread ----

    def ready(self, plan: KvPlan | None) -> None:
        """The model is loaded; `plan` is what its batch may take."""
        with self.changed:
            self.admission = Admission(self._max_batch, plan)
            if not self.stopping:
                self.down = ""

    def set_down(self, reason: str) -> None:
        """Nothing can be generated, because of `reason`."""
        with self.changed:
            self.down = reason

    def mark_step(self, began: float | None) -> None:
        """The runtime is called, or has come back: None."""
        with self.changed:
            self.step_began = began

    def shut(self, reason: str) -> None:
        """Fail all that is left; nothing can be queued from here on. Idempotent."""
        with self.changed:
            self.down = reason
            jobs = list(self.jobs)
            for job in jobs:
                self.end(job)
            self.waiting.clear()
            works = [*self.works] if self.doing is None else [self.doing, *self.works]
            self.works.clear()
            self.doing = None
        error = BackendError(Stage.SENT, Cause.ENGINE, f"{self.library}: {reason}")
        self.deliver([(job, error) for job in jobs])
        for work in works:
            self.call(work.fail, error)

    def deliver(self, out: Sequence[tuple[Job, Piece]]) -> None:
        """Hand jobs what they have got, in the event loop; one call, however many they are."""
        if out:
            self.call(_hand_over, out)

    def call(self, function: Callable[..., None], *args: object) -> None:
        """Have the event loop call `function`. Where it is closed, the thread shall end."""
        if self.loop is None:
            return
        try:
            self.loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop is closed: nobody is left to listen
            with self.changed:
                self.stopping = True


def _hand_over(out: Sequence[tuple[Job, Piece]]) -> None:
    for job, piece in out:
        job.sink(piece)

"""Who waits for a place in the batch, and in which order they get one. Pure: time is passed in.

Rules of this file:

- The order is priority (lower first, as in vLLM), then arrival. Nobody passes the head, however
  little they want: a long prompt is not starved by short ones behind it.
- A job waits until its first row has a place. From then on no limit on waiting holds for it.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterator
from operator import attrgetter

import msgspec

from backends.inprocess.job import Job, Row

_SMOOTHING = 0.2
"""Weight of the newest wait in the mean."""
_SOON = 1.0
_LONGEST_ADVICE = 60.0
"""Seconds: who is sent away is told to come back neither sooner nor later than this."""


class _Entry(msgspec.Struct, eq=False):
    """A job of which rows wait."""

    job: Job
    rank: tuple[int, int]
    """Priority, and the number of its arrival."""
    since: float
    rows: deque[Row]
    begun: bool = False
    """One of its rows has a place."""


class WaitQueue:
    """Rows of jobs, in the order in which they get a place. Times are in seconds.

    `timeout` is how long a job may wait. How many rows may wait is for the caller to bound.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._order: list[_Entry] = []
        self._entries: dict[int, _Entry] = {}
        """By the job's id, in the order of arrival."""
        self._rows = 0
        self._arrivals = 0
        self._mean_wait = 0.0
        self.waits = 0
        """Jobs whose wait is over because they got a place."""
        self.waited = 0.0
        """Seconds that these waited, all together."""

    def __len__(self) -> int:
        """How many rows wait."""
        return self._rows

    def __iter__(self) -> Iterator[Row]:
        """The rows, in their order."""
        for entry in self._order:
            yield from entry.rows

    def add(self, job: Job, now: float) -> None:
        """Let all rows of `job` wait."""
        self._arrivals += 1
        entry = _Entry(job, (job.priority, self._arrivals), now, deque(job.rows))
        insort(self._order, entry, key=attrgetter("rank"))
        self._entries[id(job)] = entry
        self._rows += len(entry.rows)

    def head(self) -> Row | None:
        """The row that is next."""
        return self._order[0].rows[0] if self._order else None

    def pop(self, now: float) -> Row:
        """Give the head a place."""
        entry = self._order[0]
        if not entry.begun:
            entry.begun = True
            self._observe(now - entry.since)
            self.waits += 1
            self.waited += now - entry.since
        row = entry.rows.popleft()
        self._rows -= 1
        if not entry.rows:
            self._remove(entry)
        return row

    def drop(self, job: Job) -> None:
        """Forget a job's rows, if any wait."""
        entry = self._entries.get(id(job))
        if entry is not None:
            self._rows -= len(entry.rows)
            self._remove(entry)

    def expire(self, now: float) -> list[Job]:
        """Take out the jobs that have waited for too long without getting any place."""
        late: list[_Entry] = []
        for entry in self._entries.values():
            if now - entry.since < self._timeout:
                break  # those that came later have waited less
            if not entry.begun:
                late.append(entry)
        for entry in late:
            self._observe(now - entry.since)
            self.drop(entry.job)
        return [entry.job for entry in late]

    def clear(self) -> None:
        """Forget all."""
        self._order.clear()
        self._entries.clear()
        self._rows = 0

    def longest_wait(self, now: float) -> float:
        """Seconds for which the longest-waiting job has waited; 0 where none waits."""
        waiting = (entry.since for entry in self._entries.values() if not entry.begun)
        return max(0.0, now - next(waiting, now))

    def advice(self) -> float:
        """Seconds after which there may be room, by how long others have waited lately."""
        return min(max(self._mean_wait, _SOON), _LONGEST_ADVICE)

    def _remove(self, entry: _Entry) -> None:
        self._order.remove(entry)
        del self._entries[id(entry.job)]

    def _observe(self, wait: float) -> None:
        self._mean_wait += _SMOOTHING * (wait - self._mean_wait)

"""A circuit breaker per replica: after failures in a row, leave it alone for a while.

    closed ──(failures in a row ≥ threshold)──► open ──(wait is over)──► half-open
      ▲                                          ▲                          │
      └──────────────(the trial succeeds)────────┼──(the trial fails)───────┘

Half-open lets exactly one request through. An answer to a request that was sent before the
breaker opened says nothing about now, so each result carries the epoch it was sent in.
"""

from __future__ import annotations

from enum import StrEnum


class BreakerState(StrEnum):
    """The three states of the picture above."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


THRESHOLD = 3
"""Failures in a row that open it."""
FIRST_WAIT = 1.0
"""Seconds it stays open the first time; each failed trial doubles that."""
LONGEST_WAIT = 30.0


class Breaker:
    """The three states; time is passed in (monotonic seconds)."""

    __slots__ = ("_failures", "_open_until", "_state", "_wait", "epoch")

    def __init__(self) -> None:
        self._state = BreakerState.CLOSED
        self._failures = 0
        self._wait = FIRST_WAIT
        self._open_until = 0.0
        self.epoch = 0
        """Counts the state changes; a result from another epoch is ignored."""

    def state(self, now: float) -> BreakerState:
        if self._state is BreakerState.OPEN and now >= self._open_until:
            return BreakerState.HALF_OPEN
        return self._state

    def allows(self, now: float) -> bool:
        """Whether a request may be sent now; changes nothing."""
        if self._state is BreakerState.CLOSED:
            return True
        # In half-open the one trial is under way; a trial that never reports must not lock
        # the replica out for ever, so after the wait another one is let through.
        return now >= self._open_until

    def sent(self, now: float) -> int:
        """Note that a request goes out; returns the epoch that its result must carry."""
        if self._state is not BreakerState.CLOSED and now >= self._open_until:
            self._state = BreakerState.HALF_OPEN
            self._open_until = now + self._wait
        return self.epoch

    def succeeded(self, epoch: int) -> None:
        if epoch != self.epoch:
            return
        self._failures = 0
        if self._state is not BreakerState.CLOSED:
            self.reset()

    def failed(self, epoch: int, now: float) -> None:
        if epoch != self.epoch or (self._state is BreakerState.OPEN and now < self._open_until):
            return  # asked for want of a better one: that it is down is known
        self._failures += 1
        if self._state is BreakerState.HALF_OPEN:
            self._wait = min(self._wait * 2, LONGEST_WAIT)
            self._open(now)
        elif self._failures >= THRESHOLD:
            self._open(now)

    def reset(self) -> None:
        """Close it: an outside witness, a health probe, has seen the replica come back."""
        self._state = BreakerState.CLOSED
        self._failures = 0
        self._wait = FIRST_WAIT
        self.epoch += 1

    def _open(self, now: float) -> None:
        self._state = BreakerState.OPEN
        self._open_until = now + self._wait
        self.epoch += 1

"""A circuit breaker per replica: after failures in a row, leave it alone for a while.

    closed ──(failures in a row ≥ threshold)──► open ──(wait is over)──► half-open
      ▲                                          ▲                          │
      └──────────────(the trial succeeds)────────┼──(the trial fails)───────┘

Half-open lets exactly one request through. An answer to a request that was sent before the
breaker opened says nothing about now, so each result carries the epoch it was sent in. What was
sent beside the trial, for want of a better replica, decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from math import inf

from backends.options.health import CONSECUTIVE_FAILURES


class BreakerState(StrEnum):
    """The three states of the picture above."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


THRESHOLD = CONSECUTIVE_FAILURES
"""Failures in a row that open it, where the configuration does not say."""
FIRST_WAIT = 1.0
"""Seconds it stays open the first time; each failed trial doubles that."""
LONGEST_WAIT = 30.0
FORGIVEN_AFTER = 60.0
"""Seconds closed after which the next wait is as short as the first: before, it flaps."""
TRIAL = 10.0
"""Seconds for which a trial is waited for before another one is let through."""
NOT_COUNTED = -1
"""The epoch of what is sent beside a trial."""


def always() -> bool:
    """Whether it may open, whatever else is ejected: yes."""
    return True


class Breaker:
    """The three states; time is passed in (monotonic seconds)."""

    __slots__ = ("_failures", "_open_until", "_state", "_wait", "epoch", "threshold")

    def __init__(self, threshold: int = THRESHOLD) -> None:
        self.threshold = threshold
        """Failures in a row that open it."""
        self._state = BreakerState.CLOSED
        self._failures = 0
        self._wait = FIRST_WAIT
        self._open_until = -inf
        """When a trial may be made; once it is closed again, when the latest one was under way."""
        self.epoch = 0
        """Counts the state changes; a result from another epoch is ignored."""

    @property
    def closed(self) -> bool:
        return self._state is BreakerState.CLOSED

    @property
    def opens_at(self) -> float:
        """When the next trial may be made, unless it is closed."""
        return self._open_until

    def state(self, now: float) -> BreakerState:
        if self._state is BreakerState.OPEN and now >= self._open_until:
            return BreakerState.HALF_OPEN
        return self._state

    def allows(self, now: float) -> bool:
        """Whether a request may be sent now; changes nothing."""
        if self._state is BreakerState.CLOSED:
            return True
        # In half-open the one trial is under way; a trial that takes for ever must not lock
        # the replica out for as long, so after a while another one is let through.
        return now >= self._open_until

    def sent(self, now: float) -> int:
        """Note that a request goes out; returns the epoch that its result must carry."""
        if self._state is BreakerState.CLOSED:
            return self.epoch
        if now < self._open_until:
            return self.epoch if self._state is BreakerState.OPEN else NOT_COUNTED
        if self._state is BreakerState.OPEN:
            self._state = BreakerState.HALF_OPEN
            self.epoch += 1
        self._open_until = now + max(self._wait, TRIAL)
        return self.epoch

    def succeeded(self, epoch: int) -> bool:
        """Returns whether that closes it."""
        if epoch != self.epoch:
            return False
        self._failures = 0
        if self._state is BreakerState.CLOSED:
            return False
        self._state = BreakerState.CLOSED
        self.epoch += 1
        return True

    def failed(self, epoch: int, now: float, may_open: Callable[[], bool] = always) -> bool:
        """Returns whether that opens it, which `may_open` is asked about if it was closed."""
        if epoch != self.epoch or self._state is BreakerState.OPEN:
            return False  # asked for want of a better one: that it is down is known
        self._failures += 1
        if self._state is BreakerState.CLOSED and (
            self._failures < self.threshold or not may_open()
        ):
            return False
        flaps = now - self._open_until < FORGIVEN_AFTER
        self._wait = min(self._wait * 2, LONGEST_WAIT) if flaps else FIRST_WAIT
        self.open(now, self._wait)
        return True

    def undecided(self, epoch: int, now: float) -> None:
        """A request ended and says nothing of the replica; if it was the trial, make another."""
        if epoch == self.epoch and self._state is BreakerState.HALF_OPEN:
            self._open_until = now

    def open(self, now: float, seconds: float) -> None:
        """Open it for `seconds`; then a trial decides."""
        self._state = BreakerState.OPEN
        self._open_until = now + seconds
        self.epoch += 1

    def reset(self) -> None:
        """Close it: an outside witness, a health probe, has seen the replica come back."""
        self._state = BreakerState.CLOSED
        self._failures = 0
        self._wait = FIRST_WAIT
        self._open_until = -inf
        self.epoch += 1

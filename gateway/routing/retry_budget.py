"""How many retries all requests together may cause, so that a bad day does not become a storm.

Finagle's `RetryBudget`: a bucket that every request fills by `percent` of a token and every
retry empties by one, with a floor per second; what is older than the window no longer counts.
The floor lets a small deployment lose a replica under load and save everything; the percentage
keeps a large one from doubling its own overload.
Source: Twitter Finagle, `com.twitter.finagle.service.RetryBudget`.
"""

from __future__ import annotations

_SLICES = 10


class RetryBudget:
    """Counts requests and retries over a sliding window; time is passed in (monotonic s)."""

    __slots__ = ("_deposits", "_floor", "_retries", "_share", "_slice", "_slice_length")

    def __init__(self, percent: float, min_per_second: float, window: float) -> None:
        self._share = percent / 100
        self._floor = min_per_second * window
        self._slice_length = window / _SLICES
        self._deposits = [0] * _SLICES
        self._retries = [0] * _SLICES
        self._slice = 0

    def request(self, now: float) -> None:
        """A client's request has come."""
        self._advance(now)
        self._deposits[self._slice % _SLICES] += 1

    def try_retry(self, now: float) -> bool:
        """Take one retry out of the budget; False where it is spent."""
        if not self.has_room(now):
            return False
        self._retries[self._slice % _SLICES] += 1
        return True

    def has_room(self, now: float) -> bool:
        """Whether one may be taken."""
        self._advance(now)
        return self.balance >= 1

    def give_back(self, taken: float) -> None:
        """Put back a retry that was taken at that time, and not made."""
        at = int(taken / self._slice_length)
        if at > self._slice - _SLICES:  # what is older is not counted any more
            self._retries[at % _SLICES] = max(0, self._retries[at % _SLICES] - 1)

    @property
    def balance(self) -> float:
        """Retries left, as of the last call that gave the time."""
        return self._floor + self._share * sum(self._deposits) - sum(self._retries)

    def _advance(self, now: float) -> None:
        current = int(now / self._slice_length)
        if current == self._slice:
            return
        for passed in range(self._slice + 1, min(current, self._slice + _SLICES) + 1):
            self._deposits[passed % _SLICES] = 0
            self._retries[passed % _SLICES] = 0
        # A jump of more than a window has cleared every slice, whatever the numbers are now.
        self._slice = max(current, self._slice)

"""How the requests of one replica went of late, by intervals, so that it can be compared. Pure.

An interval with many requests tells enough. Where there are few, the ones before it are looked at
too, but none that is older than a look back can be: what happened long ago says nothing of now.
"""

from __future__ import annotations

from collections import deque
from itertools import chain, islice
from typing import NamedTuple

LOOKED_BACK = 120.0
"""Seconds for which an interval can be looked back at."""
INTERVALS = 12
"""Intervals that are kept at most, with the running one."""
TIMES = 256
"""Times to the first token that are kept of an interval: the latest."""


class FirstToken(NamedTuple):
    """How long one took."""

    seconds: float
    tokens: int
    """About how many of its prompt had to be computed."""


class Counts(NamedTuple):
    """How requests went, in one interval or several."""

    successes: int
    failures: int
    first_tokens: tuple[FirstToken, ...]
    """Of streams: the latest of them, `TIMES` at most, the newest interval first."""

    @property
    def requests(self) -> int:
        return self.successes + self.failures


class Tally:
    """One replica's requests since it was last cleared, the running interval's counted openly."""

    __slots__ = ("_before", "failures", "first_tokens", "successes")

    def __init__(self) -> None:
        self.successes = 0
        self.failures = 0
        self.first_tokens: deque[FirstToken] = deque(maxlen=TIMES)
        self._before: deque[Counts] = deque(maxlen=INTERVALS - 1)
        """The intervals before this one, the newest first."""

    def latest(self, intervals: int) -> Counts:
        """Of the running interval and those before it, `intervals` of them all together."""
        before = tuple(islice(self._before, intervals - 1))
        times = chain(self.first_tokens, *(one.first_tokens for one in before))
        return Counts(
            self.successes + sum(one.successes for one in before),
            self.failures + sum(one.failures for one in before),
            tuple(islice(times, TIMES)),
        )

    def turn(self) -> None:
        """Begin a new interval. Of the times before it no more are kept than can be looked at."""
        ended = [self.latest(1), *islice(self._before, INTERVALS - 2)]
        self._before.clear()
        room = TIMES
        for one in ended:
            self._before.append(one._replace(first_tokens=one.first_tokens[:room]))
            room -= len(self._before[-1].first_tokens)
        self._begin()

    def clear(self) -> None:
        """Forget all of it: what was says nothing of what comes."""
        self._before.clear()
        self._begin()

    def _begin(self) -> None:
        self.successes = self.failures = 0
        self.first_tokens.clear()


def looked_back(interval: float) -> int:
    """How many intervals of so many seconds a comparison may take together."""
    return min(INTERVALS, max(1, int(LOOKED_BACK / interval)))

"""How long a route's first tokens take: quantiles over the last answers. Pure.

A quantile is told only once enough is known, and sorted out anew only now and then: between two
answers it hardly moves.
"""

from __future__ import annotations

from collections import deque
from math import ceil

KEPT = 512
"""Answers that are remembered."""
ENOUGH = 50
"""Answers before anything is said: below that, a 95th percentile is two unlucky requests."""
_RENEWED = 16
"""Answers after which the remembered ones are sorted again."""


class FirstTokenTimes:
    """The last `KEPT` times to a first token, in seconds."""

    __slots__ = ("_sorted", "_times", "_unsorted")

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=KEPT)
        self._sorted: list[float] = []
        self._unsorted = 0

    def add(self, seconds: float) -> None:
        """One more answer has begun."""
        self._times.append(seconds)
        self._unsorted += 1

    def quantile(self, share: float) -> float | None:
        """The time within which `share` (0 to 1) of them began; None where too few are known."""
        if len(self._times) < ENOUGH:
            return None
        if not self._sorted or self._unsorted >= _RENEWED:
            self._sorted, self._unsorted = sorted(self._times), 0
        return self._sorted[max(0, ceil(share * len(self._sorted)) - 1)]

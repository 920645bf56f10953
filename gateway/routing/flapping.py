"""How long a replica that keeps going away must have been back before it is believed. Pure.

A crash loop looks like a replica that is ready, each time for a moment, and each time some requests
are lost or have to go on elsewhere. So one that was away often lately has to be seen ready several
times in a row: Envoy's `healthy_threshold`, but for those only that give a reason for it.
"""

from __future__ import annotations

from collections import deque

LATELY = 120.0
"""Seconds for which it is remembered that a replica was away."""
MOST = 4
"""Looks in a row that are asked of it at most."""


class Flapping:
    """One replica's comings and goings; time is passed in (monotonic seconds)."""

    __slots__ = ("_left", "_seen")

    def __init__(self) -> None:
        self._left: deque[float] = deque(maxlen=MOST)
        """When it went away, of late."""
        self._seen = 0
        """How often in a row it has been seen ready since."""

    def left(self, now: float) -> None:
        """It was ready, and is no more."""
        self._left.append(now)
        self._seen = 0

    def missing(self) -> None:
        """It is still away, or again before it was believed."""
        self._seen = 0

    def back(self, now: float) -> bool:
        """It has been seen ready; whether that is enough. The first time away costs nothing."""
        self._seen += 1
        return self._seen >= self.needed(now)

    def needed(self, now: float) -> int:
        """Looks in a row: one more for each further time that it was away."""
        return max(1, sum(now - left < LATELY for left in self._left))

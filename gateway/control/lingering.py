"""Which replicas are those of a name whose resolver may tell of a few at a time. Pure.

Rules of this file:

- Who is missing in an answer is gone: that is how engines are taken out of service.
- Unless the resolver is seen to tell of some only: one that was missing is told of again. From then
  on who is missing stays, for a bounded time, and as long as it answers its probes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

from backends.base_url import Base, parse_base
from gateway.control.lookup import MOST, Entry, url_of

PARTIAL_FOR = 600.0
"""Seconds for which a resolver is remembered to tell of some only."""
TIMES_TO_LIVE = 5
"""An answer that is kept so long by those between is seen as often anew, at least."""
LONGEST = 600.0
"""Seconds that times to live make of that at most."""
_REMEMBERED = 4 * MOST


class Lingering:
    """What was told of one backend's replicas; time is passed in (monotonic seconds)."""

    def __init__(self, grace: float) -> None:
        """`grace`: seconds for which who is missing stays; 0 for nobody ever."""
        self._grace = grace
        self._longest_ttl = 0.0
        self._latest: dict[Base, Entry] = {}
        self._told: dict[Base, tuple[Entry, float]] = {}
        """Who was ever told of, and when last; the longest ago first."""
        self._partial_until = -inf

    @property
    def grace(self) -> float:
        """Seconds for which who is missing stays."""
        if not self._grace:
            return 0.0
        return max(self._grace, min(LONGEST, TIMES_TO_LIVE * self._longest_ttl))

    def hear(self, entries: Iterable[Entry], ttl: float | None, now: float) -> None:
        """There is an answer: these, for `ttl` seconds, where that is known."""
        latest = {parse_base(url_of(entry)): entry for entry in entries}
        self._longest_ttl = max(self._longest_ttl, ttl or 0.0)
        if any(self._is_back(base, now) for base in latest):
            self._partial_until = now + PARTIAL_FOR
        for base, entry in latest.items():
            self._told.pop(base, None)
            self._told[base] = (entry, now)
        while len(self._told) > _REMEMBERED:
            del self._told[next(iter(self._told))]
        self._latest = latest

    def entries(self, now: float, answers: Callable[[str], bool]) -> tuple[Entry, ...]:
        """Those told of last, and those that stay beside them, in an order of their own.

        `answers` says whether the replica at a URL is in force, and may take traffic.
        """
        missing = [
            entry
            for base, (entry, told_at) in reversed(self._told.items())
            if base not in self._latest and self._stays(told_at, now) and answers(url_of(entry))
        ]
        return tuple(sorted([*self._latest.values(), *missing][:MOST], key=url_of))

    def _is_back(self, base: Base, now: float) -> bool:
        """Whether it was told of lately, and not in the answer before this one."""
        return (
            base in self._told
            and base not in self._latest
            and now - self._told[base][1] < self.grace
        )

    def _stays(self, told_at: float, now: float) -> bool:
        return now < self._partial_until and now - told_at < self.grace

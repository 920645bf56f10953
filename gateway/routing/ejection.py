"""Compare the replicas of a backend at the end of each interval, and eject those that fall behind.

Pure but for what replicas note of themselves; time is passed in. A replica ejected again is ejected
for longer, and each interval without that takes one off: Envoy's rule.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.routing.outlier import find_outliers
from gateway.routing.replica import Replica


class Comparison:
    """Of the replicas of one backend, from interval to interval."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._times: dict[str, int] = {}
        """How often each was ejected lately, by its id."""

    def tick(self, replicas: Sequence[Replica], now: float) -> None:
        """Compare them if the interval is over; they have the same settings."""
        if not replicas or now - self._since < replicas[0].detection.interval:
            return
        self._since = now
        by = replicas[0].detection
        compared = {one: one.tally for one in replicas if one.breaker.closed}
        ejected: set[str] = set()
        weights = {one: one.base_weight for one in compared}
        for one, outlier in find_outliers(compared, by, weights).items():
            if not one.may_be_ejected():
                break
            times = self._times.get(one.id, 0) + 1
            self._times[one.id] = times
            ejected.add(one.id)
            wait = min(by.base_ejection_time * times, by.max_ejection_time)
            one.eject(now, wait, outlier.reason)
        for one in replicas:
            one.tally.turn()
        self._forgive(replicas, ejected)

    def _forgive(self, replicas: Sequence[Replica], ejected: set[str]) -> None:
        closed = {one.id for one in replicas if one.breaker.closed}
        kept = {one.id for one in replicas}
        self._times = {
            one: times - (one in closed and one not in ejected)
            for one, times in self._times.items()
            if one in kept
        }
        self._times = {one: times for one, times in self._times.items() if times > 0}

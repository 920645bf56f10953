"""Which replicas have been gone for so long that their numbers are forgotten. Pure.

Those of one that stays count on whoever else goes. One that comes back soon goes on where it was;
later it begins at zero, as after a restart, which Prometheus takes for what it is.
"""

from __future__ import annotations

from collections.abc import Collection

FORGOTTEN_AFTER = 600.0
"""Seconds: long enough that the last numbers have been scraped, and that who restarts is back."""


class Absences:
    """Who is gone, and since when; time is passed in (monotonic seconds)."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def over(self, counted: Collection[str], there: Collection[str], now: float) -> frozenset[str]:
        """Those of the replicas that are `counted` which have not been `there` for too long."""
        self._since = {
            replica: self._since.get(replica, now) for replica in counted if replica not in there
        }
        over = {one for one, since in self._since.items() if now - since >= FORGOTTEN_AFTER}
        for replica in over:
            del self._since[replica]
        return frozenset(over)

"""What a supervised engine is doing, and what its replica is meanwhile."""

from __future__ import annotations

from enum import StrEnum

from backends.readiness import Condition


class Phase(StrEnum):
    """What a supervised engine is doing; `backends.launch.supervisor` draws the ways between."""

    ASLEEP = "asleep"
    STARTING = "starting"
    READY = "ready"
    BACKING_OFF = "backing_off"
    CRASH_LOOP = "crash_loop"
    STOPPING = "stopping"
    STOPPED = "stopped"

    @property
    def takes_traffic(self) -> bool:
        """Whether requests may come: one that sleeps is woken by them."""
        return self in (Phase.READY, Phase.ASLEEP)

    @property
    def condition(self) -> Condition:
        """What the replica is, while it takes no traffic."""
        return _CONDITIONS.get(self, Condition.UNHEALTHY)


_CONDITIONS = {
    Phase.STARTING: Condition.LOADING,
    Phase.STOPPING: Condition.DRAINING,
}

"""How a replica is: whether it may take traffic, and if not, why."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Condition(StrEnum):
    """How a replica is: whether it may take traffic, and if not, what kind of reason there is."""

    READY = "ready"
    LOADING = "loading"
    """It is on its way, or nobody has looked yet."""
    UNHEALTHY = "unhealthy"
    """It says so, or does not answer a probe."""
    EJECTED = "ejected"
    """It answers probes, and fails requests."""
    DRAINING = "draining"
    """It is on its way out: what runs there goes on, and nothing new is sent."""
    MISCONFIGURED = "misconfigured"
    """Only whoever wrote the configuration can mend it: time does not."""
    RATE_LIMITED = "rate_limited"
    """It has asked to be left alone for a while."""


class Readiness(msgspec.Struct, frozen=True):
    """Whether a replica may take traffic, and if not, why, in a few words."""

    ready: bool
    reason: str = ""
    condition: Condition = Condition.UNHEALTHY
    """What kind of reason that is, where it is not ready."""
    silent: bool = False
    """It was asked and nothing came back: it hangs, or is out of reach. One that is down, or on its
    way out, refuses the connection."""

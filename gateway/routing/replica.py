"""One running instance of an engine, and what the gateway knows about it.

A replica outlives the table that names it: a reload keeps those whose id is still there, so
counters and breakers live on.
"""

from __future__ import annotations

from backends.base import Adapter, Backend, Demand, Readiness
from backends.options import SlowStart
from gateway.policies.saturation import is_saturated
from gateway.routing.breaker import Breaker, BreakerState
from gateway.routing.load import ReplicaLoad
from gateway.routing.slow_start import share
from gateway.telemetry.replica_belief import Belief

NOT_PROBED = Readiness(False, "not probed yet")


class Replica:
    """An address of a backend with its load, its breaker and its last known readiness."""

    __slots__ = (
        "_slow_since",
        "adapter_faults",
        "address",
        "backend",
        "backend_name",
        "base_weight",
        "breaker",
        "id",
        "load",
        "readiness",
        "slow_start",
    )

    def __init__(self, backend_name: str, backend: Backend, address: str) -> None:
        self.id = f"{backend_name}@{_short(address)}"
        """Unique and stable: what headers, metrics and logs call it."""
        self.backend_name = backend_name
        self.backend = backend
        self.address = address
        self.base_weight = 1.0
        """How much it can take relative to the other replicas of its backend, above 0."""
        self.slow_start: SlowStart | None = None
        """How it gets to that, where it does not have it at once."""
        self._slow_since: float | None = None
        """When its slow start began; None before the first pick that it might be the one of."""
        self.load = ReplicaLoad()
        self.breaker = Breaker()
        self.readiness = NOT_PROBED
        self.adapter_faults: dict[Adapter, str] = {}
        """Why it lacks adapters that it should have, as far as that has been tried."""

    @property
    def outstanding(self) -> int:
        """Attempts that have been sent and not yet ended."""
        return self.load.outstanding

    @property
    def pending_tokens(self) -> int:
        """See `gateway.policies.Candidate`, like what follows."""
        return self.load.pending_tokens

    def weight(self, now: float) -> float:
        """How much it can take now. A slow start begins with the first look after it is back."""
        if self.slow_start is None:
            return self.base_weight
        if self._slow_since is None:
            self._slow_since = now
        return self.base_weight * share(self.slow_start, now - self._slow_since)

    def first_token_time(self, now: float) -> float | None:
        """Seconds to the first token, estimated."""
        return self.load.first_token_time(now)

    def demand(self, now: float) -> Demand | None:
        """What its engine says is asked of it, where that is fresh."""
        return self.load.demand(now)

    def foreign(self, now: float) -> int:
        """Requests of others, by that word."""
        return self.load.foreign(now)

    def belief(self, now: float) -> Belief:
        """All of that, to be told."""
        load = self.load
        return Belief(
            weight=self.weight(now),
            pending_tokens=load.pending_tokens,
            prompt_tokens=load.prompt_tokens,
            known_tokens=load.known_tokens,
            first_token=load.first_token_time(now),
            saturated=is_saturated(self, now),
            demand=load.demand(now),
            demand_age=None if load.heard_at is None else now - load.heard_at,
        )

    def may_take_traffic(self, now: float) -> bool:
        """The one predicate for routing: ready as far as anybody knows, and not broken."""
        return self.readiness.ready and self.breaker.allows(now)

    def serves(self, adapter: Adapter | None) -> bool:
        """Whether it can answer with `adapter`; None is the model itself."""
        return adapter is None or self.backend.has_adapter(self.address, adapter)

    def why_not(self, now: float, adapter: Adapter | None = None) -> str:
        """Why it may not take traffic for `adapter`, in a few words; empty where it may."""
        if not self.readiness.ready:
            return self.readiness.reason
        if self.breaker.state(now) is BreakerState.OPEN:
            return "ejected after failures in a row"
        if adapter is not None and not self.serves(adapter):
            reason = self.adapter_faults.get(adapter, "not loaded yet")
            return f"adapter {adapter.name}: {reason}"
        return ""

    def observe(self, readiness: Readiness) -> None:
        """Take note of a probe. A replica that comes back starts with a clean record."""
        if readiness.ready and not self.readiness.ready:
            self.breaker.reset()
            self._slow_since = None
        self.readiness = readiness


def _short(address: str) -> str:
    _, _, rest = address.partition("://")
    return (rest or address).removesuffix("/").removesuffix("/v1")

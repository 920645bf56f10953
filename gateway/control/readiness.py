"""May this gateway take traffic, and if not, why? Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from gateway.control.drain import Phase
from gateway.control.state import Snapshot
from gateway.dispatch.passing_over import why_none
from gateway.routing.reasons import by_reason
from gateway.routing.replica import Replica
from gateway.routing.table import Route, Table, Variant

_READY = "ready"


class ReadinessReport(msgspec.Struct, frozen=True):
    """What `/ready` says."""

    ready: bool
    reason: str
    models: dict[str, str]
    """Each model, and `ready`, `ready through` a fallback, or why it cannot be answered."""
    replicas: dict[str, str] = {}
    """Each replica's condition, and why that is so."""


def report(snapshot: Snapshot, phase: Phase, now: float) -> ReadinessReport:
    """Ready while serving and as long as some model has a replica that may take traffic.

    One model without a replica does not take the others out of a load balancer: it is named in
    the report, and its requests are refused with the reason.
    """
    own = {route.name: _model(route.variants, now) for route in snapshot.table.routes}
    models = {
        route.name: _with_fallback(own[route.name], route, snapshot.table, own, now)
        for route in snapshot.table.routes
    }
    replicas = {one.id: _replica(one, now) for one in snapshot.replicas}
    if phase is not Phase.SERVING:
        reason = f"the gateway is shutting down ({phase})"
        return ReadinessReport(False, reason, models, replicas)
    if any(state == _READY for state in own.values()):
        return ReadinessReport(True, "ready", models, replicas)
    reason = "no model has a replica that may take traffic"
    return ReadinessReport(False, reason, models, replicas)


def _replica(replica: Replica, now: float) -> str:
    condition, why = replica.condition(now), replica.why_not(now)
    if not why or why.startswith(condition):
        return why or condition
    return f"{condition}: {why}"


def _model(variants: Sequence[Variant], now: float) -> str:
    each = [(replica, variant.adapter) for variant in variants for replica in variant.replicas]
    if any(one.may_take_traffic(now) and one.serves(adapter) for one, adapter in each):
        return _READY
    if not each:
        return "no replica has been found"
    return by_reason((one.id, one.why_not(now, adapter)) for one, adapter in each)


def _with_fallback(
    state: str, route: Route, table: Table, own: Mapping[str, str], now: float
) -> str:
    """A model none of whose replicas may take traffic is answered by the first that may of those
    that it falls back to then: requests go straight there."""
    if state == _READY:
        return state
    replicas = [one for variant in route.variants for one in variant.replicas]
    for name in getattr(route.fallback, why_none(replicas, now)):
        other = table.find(name)
        if other is not None and own[other.name] == _READY:
            return f"{_READY} through {other.name} ({state})"
    return state

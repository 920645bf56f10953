"""May this gateway take traffic, and if not, why? Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from gateway.control.drain import Phase
from gateway.control.state import Snapshot
from gateway.routing.reasons import by_reason
from gateway.routing.table import Route, Table, Variant

_READY = "ready"


class ReadinessReport(msgspec.Struct, frozen=True):
    """What `/ready` says."""

    ready: bool
    reason: str
    models: dict[str, str]
    """Each model, and `ready`, `ready through` a fallback, or why it cannot be answered."""


def report(snapshot: Snapshot, phase: Phase, now: float) -> ReadinessReport:
    """Ready while serving and as long as some model has a replica that may take traffic.

    One model without a replica does not take the others out of a load balancer: it is named in
    the report, and its requests are refused with the reason.
    """
    own = {route.name: _model(route.variants, now) for route in snapshot.table.routes}
    models = {
        route.name: _with_fallback(own[route.name], route, snapshot.table, own)
        for route in snapshot.table.routes
    }
    if phase is not Phase.SERVING:
        return ReadinessReport(False, f"the gateway is shutting down ({phase})", models)
    if any(state == _READY for state in own.values()):
        return ReadinessReport(True, "ready", models)
    return ReadinessReport(False, "no model has a replica that may take traffic", models)


def _model(variants: Sequence[Variant], now: float) -> str:
    each = [(replica, variant.adapter) for variant in variants for replica in variant.replicas]
    if any(one.may_take_traffic(now) and one.serves(adapter) for one, adapter in each):
        return _READY
    return by_reason((one.id, one.why_not(now, adapter)) for one, adapter in each)


def _with_fallback(state: str, route: Route, table: Table, own: Mapping[str, str]) -> str:
    """A model whose replicas are down is still answered if one that it falls back to is not."""
    if state == _READY:
        return state
    for name in route.fallback.unavailable:
        other = table.find(name)
        if other is not None and own[other.name] == _READY:
            return f"{_READY} through {other.name} ({state})"
    return state

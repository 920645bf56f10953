"""What is told of each replica at a scrape: how it is, and what it has to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from backends.base import Supervised
from backends.load import Load
from backends.readiness import Condition
from gateway.telemetry import names
from gateway.telemetry.engine_load import LoadFamilies
from gateway.telemetry.engine_process import ProcessFamilies
from gateway.telemetry.replica_belief import Belief, BeliefFamilies


class ReplicaState(msgspec.Struct, frozen=True):
    """One replica as it is now."""

    backend: str
    replica: str
    ready: bool
    """Whether it may take traffic."""
    outstanding: int
    """Attempts running on it."""
    condition: Condition = Condition.READY
    """How it is, and if it may not take traffic, why."""
    ejections: Mapping[str, int] = {}
    """How often it has been, by what."""
    load: Load | None = None
    """What its engine has to do, where that is in this process."""
    supervised: Supervised | None = None
    """How its engine is doing, where the gateway runs it in a process of its own."""
    belief: Belief | None = None
    """What policies go by."""
    adapters: Sequence[tuple[str, bool]] = ()
    """The LoRA adapters that it should have, and whether it has each."""


def replica_metrics(states: Iterable[ReplicaState]) -> Iterator[Metric]:
    """What `states` come to, at a scrape."""
    ready = GaugeMetricFamily(
        names.REPLICA_READY, "Whether a replica may take traffic.", labels=names.REPLICA_LABELS
    )
    condition = GaugeMetricFamily(
        names.REPLICA_CONDITION,
        "1 for how a replica is now.",
        labels=(*names.REPLICA_LABELS, names.label(names.CONDITION)),
    )
    ejections = CounterMetricFamily(
        names.REPLICA_EJECTIONS,
        "How often a replica has been ejected, by what.",
        labels=(*names.REPLICA_LABELS, names.label(names.EJECTED_BY)),
    )
    outstanding = GaugeMetricFamily(
        names.REPLICA_OUTSTANDING, "Tries running on a replica.", labels=names.REPLICA_LABELS
    )
    adapters = GaugeMetricFamily(
        names.ADAPTER_READY,
        "Whether a replica has an adapter that it should have.",
        labels=names.ADAPTER_LABELS,
    )
    loads, engines, beliefs = LoadFamilies(), ProcessFamilies(), BeliefFamilies()
    for state in states:
        where = (state.backend, state.replica)
        ready.add_metric(where, float(state.ready))
        condition.add_metric((*where, state.condition), 1.0)
        for by, times in state.ejections.items():
            ejections.add_metric((*where, by), times)
        outstanding.add_metric(where, state.outstanding)
        for adapter, is_there in state.adapters:
            adapters.add_metric((*where, adapter), float(is_there))
        if state.belief is not None:
            beliefs.add(where, state.belief)
        if state.load is not None:
            loads.add(where, state.load)
        if state.supervised is not None:
            engines.add(where, state.supervised)
    yield from (
        ready,
        condition,
        ejections,
        outstanding,
        *beliefs,
        adapters,
        *loads,
        *engines,
    )

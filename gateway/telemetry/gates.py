"""The gates in front of models as a scrape sees them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec
from prometheus_client.core import GaugeMetricFamily, Metric

from gateway.telemetry import names


class GateState(msgspec.Struct, frozen=True):
    """The gate of one model as it is now."""

    model: str
    inside: int
    places: float
    """Infinity where there is no bound any more."""
    waiting: Mapping[str, int]
    """By priority."""


def gate_metrics(gates: Iterable[GateState]) -> Iterator[Metric]:
    """Who is inside, how many may be, and who waits."""
    inside = GaugeMetricFamily(
        names.ADMISSION_INSIDE, "Requests inside a model's gate.", labels=names.GATE_LABELS
    )
    places = GaugeMetricFamily(
        names.ADMISSION_PLACES, "How many there may be.", labels=names.GATE_LABELS
    )
    waiting = GaugeMetricFamily(
        names.ADMISSION_WAITING, "Requests that wait before it.", labels=names.CLASS_LABELS
    )
    for gate in gates:
        inside.add_metric([gate.model], gate.inside)
        places.add_metric([gate.model], gate.places)
        for priority, count in gate.waiting.items():
            waiting.add_metric([gate.model, priority], count)
    yield from (inside, places, waiting)

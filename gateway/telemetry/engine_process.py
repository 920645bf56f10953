"""What is told at a scrape of engines that the gateway runs in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from backends.base import Supervised
from gateway.telemetry import names


class ProcessFamilies:
    """The metrics of one scrape."""

    def __init__(self) -> None:
        self._state = GaugeMetricFamily(
            names.ENGINE_STATE,
            "1 for what an engine started by the gateway is doing now.",
            labels=(*names.REPLICA_LABELS, names.label(names.STATE)),
        )
        self._restarts = CounterMetricFamily(
            names.ENGINE_RESTARTS,
            "Starts of an engine after its first.",
            labels=names.REPLICA_LABELS,
        )
        self._memory = GaugeMetricFamily(
            names.ENGINE_MEMORY,
            "Resident memory of an engine started by the gateway.",
            labels=names.REPLICA_LABELS,
        )

    def add(self, where: tuple[str, str], supervised: Supervised) -> None:
        """Tell one replica."""
        self._state.add_metric((*where, supervised.state), 1.0)
        self._restarts.add_metric(where, supervised.restarts)
        if supervised.memory is not None:
            self._memory.add_metric(where, supervised.memory)

    def __iter__(self) -> Iterator[Metric]:
        """All of them."""
        yield from (self._state, self._restarts, self._memory)

"""What engines in this process tell of themselves at a scrape: their batch, queue and caches."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from backends.load import Load
from gateway.telemetry import names

_GAUGES = {
    "running": (names.ENGINE_RUNNING, "Sequences that an engine in this process has in its batch."),
    "waiting": (names.ENGINE_WAITING, "Sequences that wait for a place in it."),
    "longest_wait": (names.ENGINE_LONGEST_WAIT, "How long the first of those has waited."),
    "kv_tokens": (names.ENGINE_KV_TOKENS, "Tokens of KV cache reserved for the batch."),
    "kv_planned": (names.ENGINE_KV_PLANNED, "Tokens of KV cache that there is memory for."),
    "cache_bytes": (names.ENGINE_CACHE_BYTES, "What the prompt cache holds."),
}
_COUNTERS = {
    "cache_queries": (names.ENGINE_CACHE_QUERIES, "Prompt tokens looked up in the prompt cache."),
    "cache_hits": (names.ENGINE_CACHE_HITS, "Those of them that need not be computed again."),
    "steps": (names.ENGINE_STEPS, "Steps of the batch: an engine that stands still counts none."),
}


class LoadFamilies:
    """The metrics of one scrape."""

    def __init__(self) -> None:
        labels = names.REPLICA_LABELS
        self._gauges = {
            field: GaugeMetricFamily(name, said, labels=labels)
            for field, (name, said) in _GAUGES.items()
        }
        self._counters = {
            field: CounterMetricFamily(name, said, labels=labels)
            for field, (name, said) in _COUNTERS.items()
        }
        self._waits = SummaryMetricFamily(
            names.ENGINE_QUEUE_TIME, "Waits for a place in the batch.", labels=labels
        )

    def add(self, where: tuple[str, str], load: Load) -> None:
        """Tell one replica."""
        for field, gauge in self._gauges.items():
            gauge.add_metric(where, getattr(load, field))
        for field, counter in self._counters.items():
            counter.add_metric(where, getattr(load, field))
        self._waits.add_metric(where, count_value=load.waits, sum_value=load.waited)

    def __iter__(self) -> Iterator[Metric]:
        """All of them."""
        yield from self._gauges.values()
        yield from self._counters.values()
        yield self._waits

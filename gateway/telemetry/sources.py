"""Whether the configuration and the replicas can still be taken over, as a scrape sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric

from gateway.telemetry import names


def source_metrics(reloaded: bool, looks: Mapping[str, bool]) -> Iterator[Metric]:
    """Whether the last reload succeeded, and, by backend, the last look for its replicas."""
    yield GaugeMetricFamily(
        names.RELOAD_SUCCESSFUL,
        "Whether the file, as it was last read, is in force.",
        value=float(reloaded),
    )
    successful = GaugeMetricFamily(
        names.DISCOVERY_SUCCESSFUL,
        "Whether what the last look for a backend's replicas found is in force.",
        labels=names.SOURCE_LABELS,
    )
    for backend, success in looks.items():
        successful.add_metric([backend], float(success))
    yield successful

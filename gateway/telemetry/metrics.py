"""The numbers behind `/metrics`, cheap to move: one look-up per request, then pre-bound children.

Rules of this file:

- All of it is owned by one event loop: counts of what is in flight are plain integers, and move
  in context managers only, so that a cancelled request cannot leak one.
- The number of series is bounded, whoever names them: beyond the bound everything new is counted
  under `names.OVERFLOW`. Those of replicas that have long been gone make room.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from backends.base import Endpoint
from gateway.telemetry import names
from gateway.telemetry.absences import Absences
from gateway.telemetry.families import AttemptSeries, Families, RequestSeries
from gateway.telemetry.gates import GateState, gate_metrics
from gateway.telemetry.record import RequestRecord
from gateway.telemetry.replicas import ReplicaState, replica_metrics
from gateway.telemetry.sources import source_metrics

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""What `render` returns."""

_MAX_SERIES = 4096
_MAX_CAUSES = 256


class InFlight:
    """A count of what runs now: `with in_flight: …`. One object serves any number at a time."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.count -= 1


class AttemptMetrics:
    """The tries of one variant on one replica."""

    __slots__ = ("_families", "_key", "_series", "in_flight")

    def __init__(self, families: Families, key: tuple[str, str, str]) -> None:
        self.in_flight = InFlight()
        """To be entered for as long as a try runs."""
        self._families = families
        self._key = key
        self._series: dict[tuple[Endpoint, str], AttemptSeries] = {}

    def finished(self, endpoint: Endpoint, cause: str, seconds: float) -> None:
        """Count a try that has ended: `cause` is why it failed, or `names.OK`."""
        series = self._series.get((endpoint, cause))
        if series is None:
            if len(self._series) >= _MAX_CAUSES:
                cause = names.OVERFLOW
            series = self._families.attempt(endpoint, self._key, cause)
            self._series[endpoint, cause] = series
        series.total.inc()
        series.duration.observe(seconds)

    def went_on(self, way: str) -> None:
        """Count an answer that it went on with."""
        self._families.failovers.labels(*self._key, way).inc()

    def wasted(self, tokens: int) -> None:
        """Count tokens that were said before."""
        self._families.wasted.labels(*self._key).inc(tokens)


class Metrics:
    """All metrics of one gateway, in a registry of its own."""

    def __init__(
        self,
        version: str,
        *,
        max_series: int = _MAX_SERIES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._families = Families(self._registry)
        self._max_series = max_series
        self._clock = clock
        self._absences = Absences()
        self._requests: dict[tuple[object, ...], RequestSeries] = {}
        self._live = _LiveCollector()
        self._registry.register(self._live)
        Info(names.BUILD, "What runs here.", registry=self._registry).info({"version": version})
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def requests_in_flight(self, endpoint: Endpoint) -> InFlight:
        """To be entered for as long as a request of this endpoint is being answered."""
        return self._live.requests[endpoint]

    def attempts(self, model: str, variant: str, replica: str) -> AttemptMetrics:
        """The metrics of tries of a route's variant on a replica; all three configured names."""
        key = (model, variant, replica)
        found = self._live.attempts.get(key)
        if found is None:
            if len(self._live.attempts) >= self._max_series:
                key = (names.OVERFLOW,) * 3
            found = self._live.attempts.setdefault(key, AttemptMetrics(self._families, key))
        return found

    def passed_over(self, model: str, variant: str, reason: str) -> None:
        """Count a request that was to go to a route, or to a variant of it, and did not."""
        self._families.passed_over.labels(model, variant, reason).inc()

    def hedged(self, model: str, result: str) -> None:
        """Count a second attempt on a route: it has won, lost or failed."""
        self._families.hedges.labels(model, result).inc()

    def queued(self, model: str, priority: str, seconds: float) -> None:
        """Count how long a request stood before a model's gate."""
        self._families.queued.labels(model, priority).observe(seconds)

    def refused(self, model: str, priority: str, reason: str) -> None:
        """Count a request that a model's gate has sent away."""
        self._families.refused.labels(model, priority, reason).inc()

    def watch_gates(self, states: Callable[[], Iterable[GateState]]) -> None:
        """Have `states` tell the gates of the moment, each time somebody scrapes."""
        self._live.gates = states

    def request_finished(self, record: RequestRecord) -> None:
        """Count a request that has ended, however it ended."""
        key = (
            record.endpoint,
            record.route,
            record.variant,
            record.replica,
            record.status,
            record.error_type,
        )
        series = self._requests.get(key)
        if series is None:
            series = self._bind_request(key, record)
        series.count(record)

    def watch_replicas(self, states: Callable[[], Iterable[ReplicaState]]) -> None:
        """Have `states` tell the replicas of the moment, each time somebody scrapes."""
        self._live.replicas = states

    def watch_sources(
        self, reloaded: Callable[[], bool], looks: Callable[[], Mapping[str, bool]]
    ) -> None:
        """Have them tell whether the last reload succeeded, and the last look by backend."""
        self._live.reloaded, self._live.looks = reloaded, looks

    def watch_drops(self, signal: str, dropped: Callable[[], int]) -> None:
        """Have `dropped` tell how many lines or spans of `signal` were given up so far."""
        self._live.drops[signal] = dropped

    def render(self) -> bytes:
        """The exposition, in Prometheus' text format (`CONTENT_TYPE`)."""
        self._forget_who_is_gone()
        return generate_latest(self._registry)

    def _forget_who_is_gone(self) -> None:
        """Whoever has a try running is still there. At a scrape: before, nobody sees a number."""
        live = self._live
        there = {state.replica for state in live.replicas()}
        there.update(key[2] for key, tries in live.attempts.items() if tries.in_flight.count)
        gone = self._absences.over(self._families.replicas, there, self._clock())
        if gone:
            self._families.forget(gone)
            live.attempts = {key: one for key, one in live.attempts.items() if key[2] not in gone}
            self._requests = {
                key: one for key, one in self._requests.items() if gone.isdisjoint(key[3:4])
            }

    def _bind_request(self, key: tuple[object, ...], record: RequestRecord) -> RequestSeries:
        arm = (record.route or "", record.variant or "", record.replica or "")
        status, error = str(record.status), record.error_type
        if len(self._requests) >= self._max_series:
            key = (record.endpoint, names.OVERFLOW)
            arm, status, error = (names.OVERFLOW,) * 3, names.OVERFLOW, names.OVERFLOW
        series = self._requests.get(key) or self._families.request(
            record.endpoint, arm, status, error
        )
        self._requests[key] = series
        return series


class _LiveCollector(Collector):
    """What is read at the moment of a scrape rather than counted along the way."""

    def __init__(self) -> None:
        self.requests = {endpoint: InFlight() for endpoint in Endpoint}
        self.attempts: dict[tuple[str, str, str], AttemptMetrics] = {}
        self.replicas: Callable[[], Iterable[ReplicaState]] = tuple
        self.gates: Callable[[], Iterable[GateState]] = tuple
        self.reloaded: Callable[[], bool] = lambda: True
        self.looks: Callable[[], Mapping[str, bool]] = dict
        self.drops: dict[str, Callable[[], int]] = {}

    def collect(self) -> Iterator[Metric]:
        requests = GaugeMetricFamily(
            names.REQUESTS_ACTIVE, "Requests being answered.", labels=[names.label(names.ENDPOINT)]
        )
        for endpoint, in_flight in self.requests.items():
            requests.add_metric([endpoint.value], in_flight.count)
        yield requests
        attempts = GaugeMetricFamily(
            names.ATTEMPTS_ACTIVE, "Tries running.", labels=names.MODEL_LABELS
        )
        for key, tries in self.attempts.items():
            attempts.add_metric(key, tries.in_flight.count)
        yield attempts
        yield from replica_metrics(self.replicas())
        yield from gate_metrics(self.gates())
        yield from source_metrics(self.reloaded(), self.looks())
        drops = CounterMetricFamily(
            names.TELEMETRY_DROPPED,
            "Access lines and spans given up because nobody took them.",
            labels=[names.label(names.SIGNAL)],
        )
        for signal, dropped in self.drops.items():
            drops.add_metric([signal], dropped())
        yield drops

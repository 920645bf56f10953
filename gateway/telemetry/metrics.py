"""The numbers behind `/metrics`, cheap to move: one look-up per request, then pre-bound children.

Rules of this file:

- All of it is owned by one event loop: counts of what is in flight are plain integers, and move
  in context managers only, so that a cancelled request cannot leak one.
- The number of series is bounded, whoever names them: beyond the bound everything new is counted
  under `names.OVERFLOW`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType

import msgspec
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

from backends.base import Endpoint, Supervised
from backends.load import Load
from backends.readiness import Condition
from gateway.telemetry import names
from gateway.telemetry.engine_load import LoadFamilies
from gateway.telemetry.gates import GateState, gate_metrics
from gateway.telemetry.record import RequestRecord
from gateway.telemetry.replica_belief import Belief, BeliefFamilies
from gateway.telemetry.series import Counter, CounterFamily, Histogram, HistogramFamily

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""What `render` returns."""

_MAX_SERIES = 4096
_MAX_CAUSES = 256


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

    def __init__(self, families: _Families, key: tuple[str, str, str]) -> None:
        self.in_flight = InFlight()
        """To be entered for as long as a try runs."""
        self._families = families
        self._key = key
        self._series: dict[tuple[Endpoint, str], _AttemptSeries] = {}

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

    def __init__(self, version: str, *, max_series: int = _MAX_SERIES) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._families = _Families(self._registry)
        self._max_series = max_series
        self._requests: dict[tuple[object, ...], _RequestSeries] = {}
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

    def watch_drops(self, signal: str, dropped: Callable[[], int]) -> None:
        """Have `dropped` tell how many lines or spans of `signal` were given up so far."""
        self._live.drops[signal] = dropped

    def render(self) -> bytes:
        """The exposition, in Prometheus' text format (`CONTENT_TYPE`)."""
        return generate_latest(self._registry)

    def _bind_request(self, key: tuple[object, ...], record: RequestRecord) -> _RequestSeries:
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


class _RequestSeries(msgspec.Struct, frozen=True):
    """The children that one kind of request moves."""

    total: Counter
    duration: Histogram
    first_token: Histogram
    per_token: Histogram
    input_tokens: Histogram
    output_tokens: Histogram
    cached_tokens: Counter

    def count(self, record: RequestRecord) -> None:
        self.total.inc()
        self.duration.observe(record.duration)
        first_token = record.time_to_first_token
        if first_token is not None:
            self.first_token.observe(first_token)
            per_token = record.time_per_output_token
            if per_token is not None:
                self.per_token.observe(per_token)
        if record.input_tokens is not None:
            self.input_tokens.observe(record.input_tokens)
        if record.output_tokens is not None:
            self.output_tokens.observe(record.output_tokens)
        if record.cached_tokens:
            self.cached_tokens.inc(record.cached_tokens)


class _AttemptSeries(msgspec.Struct, frozen=True):
    """The children that one kind of attempt moves."""

    total: Counter
    duration: Histogram


class _Families:
    """The metric families, and how their children are bound."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = CounterFamily(names.REQUESTS, "Requests answered.", names.REQUEST_LABELS)
        self._attempts = CounterFamily(
            names.ATTEMPTS_TOTAL, "Tries on a replica, by how they ended.", names.ATTEMPT_LABELS
        )
        self.failovers = CounterFamily(
            names.FAILOVERS_TOTAL,
            "Answers that broke off on another replica and that this one went on with.",
            names.FAILOVER_LABELS,
        )
        self.wasted = CounterFamily(
            names.WASTED_TOKENS,
            "Tokens that were generated and given to nobody, as far as that was seen.",
            names.MODEL_LABELS,
        )
        self.queued = HistogramFamily(
            names.ADMISSION_WAIT,
            "How long requests stood before a model's gate, let in or not.",
            names.CLASS_LABELS,
            names.DURATION_BUCKETS,
        )
        self.refused = CounterFamily(
            names.ADMISSION_REFUSED, "Requests that a model's gate sent away.", names.REFUSED_LABELS
        )
        self.hedges = CounterFamily(
            names.HEDGES_TOTAL,
            "Second attempts that were made because the first was late, by how they went.",
            names.HEDGE_LABELS,
        )
        self._duration = HistogramFamily(
            names.SERVER_REQUEST_DURATION,
            "From a request's first byte to the answer's last.",
            names.DURATION_LABELS,
            names.DURATION_BUCKETS,
        )
        self._first_token = HistogramFamily(
            names.SERVER_TIME_TO_FIRST_TOKEN,
            "From a request's first byte to the first content of its stream.",
            names.OPERATION_LABELS,
            names.FIRST_TOKEN_BUCKETS,
        )
        self._per_token = HistogramFamily(
            names.SERVER_TIME_PER_OUTPUT_TOKEN,
            "Between the tokens of a stream, after the first.",
            names.OPERATION_LABELS,
            names.OUTPUT_TOKEN_BUCKETS,
        )
        self._upstream = HistogramFamily(
            names.CLIENT_OPERATION_DURATION,
            "From sending a try to a replica to the end of its reply.",
            names.DURATION_LABELS,
            names.DURATION_BUCKETS,
        )
        self._tokens = HistogramFamily(
            names.CLIENT_TOKEN_USAGE,
            "Tokens of a request, as the engine counted them.",
            names.TOKEN_LABELS,
            names.TOKEN_BUCKETS,
        )
        self._cached = CounterFamily(
            names.CACHED_INPUT_TOKENS,
            "Tokens of prompts that engines say they had in their caches.",
            names.MODEL_LABELS,
        )
        for family in vars(self).values():
            registry.register(family)

    def request(
        self, endpoint: Endpoint, key: tuple[str, str, str], status: str, error: str
    ) -> _RequestSeries:
        where = (names.OPERATIONS[endpoint], *key)
        return _RequestSeries(
            total=self._requests.labels(endpoint.value, *key, status, error),
            duration=self._duration.labels(*where, error),
            first_token=self._first_token.labels(*where),
            per_token=self._per_token.labels(*where),
            input_tokens=self._tokens.labels(*where, names.INPUT),
            output_tokens=self._tokens.labels(*where, names.OUTPUT),
            cached_tokens=self._cached.labels(*key),
        )

    def attempt(self, endpoint: Endpoint, key: tuple[str, str, str], cause: str) -> _AttemptSeries:
        error = "" if cause == names.OK else cause
        return _AttemptSeries(
            total=self._attempts.labels(*key, cause),
            duration=self._upstream.labels(names.OPERATIONS[endpoint], *key, error),
        )


class _LiveCollector(Collector):
    """What is read at the moment of a scrape rather than counted along the way."""

    def __init__(self) -> None:
        self.requests = {endpoint: InFlight() for endpoint in Endpoint}
        self.attempts: dict[tuple[str, str, str], AttemptMetrics] = {}
        self.replicas: Callable[[], Iterable[ReplicaState]] = tuple
        self.gates: Callable[[], Iterable[GateState]] = tuple
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
        yield from self._collect_replicas()
        yield from gate_metrics(self.gates())
        drops = CounterMetricFamily(
            names.TELEMETRY_DROPPED,
            "Access lines and spans given up because nobody took them.",
            labels=[names.label(names.SIGNAL)],
        )
        for signal, dropped in self.drops.items():
            drops.add_metric([signal], dropped())
        yield drops

    def _collect_replicas(self) -> Iterator[Metric]:
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
        loads, engines, beliefs = LoadFamilies(), _EngineFamilies(), BeliefFamilies()
        for state in self.replicas():
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
            *engines.families,
        )


class _EngineFamilies:
    """What is told of engines that the gateway runs in processes of their own."""

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
        self.families = (self._state, self._restarts, self._memory)

    def add(self, where: tuple[str, str], supervised: Supervised) -> None:
        """Tell one replica."""
        self._state.add_metric((*where, supervised.state), 1.0)
        self._restarts.add_metric(where, supervised.restarts)
        if supervised.memory is not None:
            self._memory.add_metric(where, supervised.memory)

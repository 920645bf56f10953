"""The metrics that are counted along the way, and how their children are bound."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from backends.base import Endpoint
from gateway.telemetry import names
from gateway.telemetry.record import RequestRecord
from gateway.telemetry.series import Counter, CounterFamily, Family, Histogram, HistogramFamily

_REPLICA = names.label(names.REPLICA)


class RequestSeries(msgspec.Struct, frozen=True):
    """The children that one kind of request moves."""

    total: Counter
    duration: Histogram
    first_token: Histogram
    per_token: Histogram
    input_tokens: Histogram
    output_tokens: Histogram
    cached_tokens: Counter

    def count(self, record: RequestRecord) -> None:
        """Count a request that has ended."""
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


class AttemptSeries(msgspec.Struct, frozen=True):
    """The children that one kind of attempt moves."""

    total: Counter
    duration: Histogram


class Families:
    """The metric families, and how their children are bound."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = CounterFamily(names.REQUESTS, "Requests answered.", names.REQUEST_LABELS)
        self._attempts = CounterFamily(
            names.ATTEMPTS_TOTAL, "Tries on a replica, by how they ended.", names.ATTEMPT_LABELS
        )
        self.passed_over = CounterFamily(
            names.PASSED_OVER_TOTAL,
            "Requests that went elsewhere at once, because nobody here might take traffic.",
            names.PASSED_OVER_LABELS,
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
        self._all: tuple[Family[Any], ...] = tuple(vars(self).values())
        for family in self._all:
            registry.register(family)

    @property
    def replicas(self) -> set[str]:
        """Those that something is counted for."""
        counted = {replica for family in self._all for replica in family.values(_REPLICA)}
        return counted - {"", names.OVERFLOW}

    def forget(self, gone: Collection[str]) -> None:
        """Drop all that is counted for the replicas `gone`."""
        for family in self._all:
            family.forget(_REPLICA, gone)

    def request(
        self, endpoint: Endpoint, key: tuple[str, str, str], status: str, error: str
    ) -> RequestSeries:
        """The children of requests that ended so; `key` is the model, the variant, the replica."""
        where = (names.OPERATIONS[endpoint], *key)
        return RequestSeries(
            total=self._requests.labels(endpoint.value, *key, status, error),
            duration=self._duration.labels(*where, error),
            first_token=self._first_token.labels(*where),
            per_token=self._per_token.labels(*where),
            input_tokens=self._tokens.labels(*where, names.INPUT),
            output_tokens=self._tokens.labels(*where, names.OUTPUT),
            cached_tokens=self._cached.labels(*key),
        )

    def attempt(self, endpoint: Endpoint, key: tuple[str, str, str], cause: str) -> AttemptSeries:
        """The children of tries that ended so; `cause` is why they failed, or `names.OK`."""
        error = "" if cause == names.OK else cause
        return AttemptSeries(
            total=self._attempts.labels(*key, cause),
            duration=self._upstream.labels(names.OPERATIONS[endpoint], *key, error),
        )

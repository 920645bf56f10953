"""What the gateway believes of its replicas when it picks one: told at a scrape, to be checked."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from backends.load import Demand
from gateway.telemetry import names


class Belief(msgspec.Struct, frozen=True, kw_only=True):
    """One replica, as policies see it now."""

    weight: float
    """How much it can take relative to the others."""
    pending_tokens: int
    """Tokens of prompts sent that it has probably still to compute."""
    prompt_tokens: int
    """Tokens of all prompts that it was sent so far, estimated."""
    known_tokens: int
    """Those of them that it had probably computed before."""
    first_token: float | None
    """Seconds to the first token, as a peak-EWMA; None where none was seen."""
    prefill: float | None = None
    """Tokens of prompts that it computes in a second, and in one answer generates; None where no
    route with a latency budget has learnt that."""
    decode: float | None = None
    saturated: bool
    """Whether its engine says that it has no room."""
    demand: Demand | None
    """What its engine said last, where that still counts."""
    demand_age: float | None
    """Seconds since then, also where it does not; None where it never said."""


_GAUGES = {
    "weight": (names.REPLICA_WEIGHT, "How much a replica can take relative to the others."),
    "pending_tokens": (
        names.REPLICA_PENDING_TOKENS,
        "Tokens of prompts that it has probably still to compute, estimated.",
    ),
    "first_token": (
        names.REPLICA_FIRST_TOKEN,
        "Its time to the first token, as a peak-EWMA that fades.",
    ),
    "prefill": (
        names.REPLICA_PREFILL_RATE,
        "Tokens of prompts that it computes in a second, as learnt for latency budgets.",
    ),
    "decode": (
        names.REPLICA_DECODE_RATE,
        "Tokens that it generates in a second of one answer, learnt likewise.",
    ),
    "saturated": (names.REPLICA_SATURATED, "Whether its engine says that it has no room."),
    "demand_age": (names.REPLICA_DEMAND_AGE, "How old its engine's last word on its load is."),
}
_DEMAND = {
    "running": (names.REPLICA_RUNNING, "Requests that its engine says it works on."),
    "waiting": (names.REPLICA_WAITING, "Requests that its engine says wait there."),
    "kv_usage": (names.REPLICA_KV_USAGE, "Share of its KV cache that its engine says is in use."),
}
_COUNTERS = {
    "prompt_tokens": (names.REPLICA_PROMPT_TOKENS, "Tokens of prompts sent, estimated."),
    "known_tokens": (
        names.REPLICA_KNOWN_TOKENS,
        "Those of them that it had probably computed before.",
    ),
}


class BeliefFamilies:
    """The metrics of one scrape. What is not known is not told."""

    def __init__(self) -> None:
        labels = names.REPLICA_LABELS
        self._gauges = {
            field: GaugeMetricFamily(name, said, labels=labels)
            for field, (name, said) in (_GAUGES | _DEMAND).items()
        }
        self._counters = {
            field: CounterMetricFamily(name, said, labels=labels)
            for field, (name, said) in _COUNTERS.items()
        }

    def add(self, where: tuple[str, str], belief: Belief) -> None:
        """Tell one replica."""
        for source, fields in ((belief, _GAUGES), (belief.demand, _DEMAND)):
            for field in fields:
                value = getattr(source, field, None)
                if value is not None:
                    self._gauges[field].add_metric(where, float(value))
        for field, counter in self._counters.items():
            counter.add_metric(where, getattr(belief, field))

    def __iter__(self) -> Iterator[Metric]:
        """All of them."""
        yield from self._gauges.values()
        yield from self._counters.values()

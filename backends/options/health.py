"""What `backends:` in routing.yaml can say about the health of replicas. Only structs."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from backends.units import Duration, Timeout

CONSECUTIVE_FAILURES = 3

_Hosts = Annotated[int, Meta(ge=2, le=1000)]
_Requests = Annotated[int, Meta(ge=1, le=100_000)]
_Percent = Annotated[float, Meta(ge=0, le=100)]


class OutlierDetection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a replica that answers probes gets no requests for a while: Envoy's
    `outlier_detection`, with defaults for fewer replicas and fewer, longer requests."""

    consecutive_failures: Annotated[int, Meta(ge=1, le=1000)] = CONSECUTIVE_FAILURES
    """Failures in a row that eject it, for a second at first; a trial that fails doubles that."""
    interval: Timeout = Timeout(10)
    """How often replicas are compared, by their requests since the last time; where those are too
    few, by those of up to two minutes."""
    base_ejection_time: Timeout = Timeout(30)
    """For how long a comparison ejects, times how often it lately did."""
    max_ejection_time: Timeout = Timeout(300)
    """The longest that a comparison ejects."""
    max_ejection_percent: _Percent = 50
    """The share of the replicas that may be ejected at the same time; one always may, unless 0."""
    success_rate_minimum_hosts: _Hosts = 5
    """Replicas with enough requests that it takes to compare success rates."""
    success_rate_request_volume: _Requests = 20
    """Requests of one replica that are enough for that."""
    success_rate_stdev_factor: Annotated[float, Meta(ge=0, le=1_000_000)] = 1900
    """A success rate lower than the mean by this many thousandths of a standard deviation
    ejects; 0 compares none."""
    failure_percentage_threshold: _Percent = 50
    """This share of failures ejects, where others have less; 0 compares none."""
    failure_percentage_minimum_hosts: _Hosts = 2
    """Replicas with enough requests that it takes for that."""
    failure_percentage_request_volume: _Requests = 10
    """Requests of one replica that are enough for that."""
    latency_factor: Annotated[float, Meta(ge=0, le=1000)] = 5
    """A median time to the first token this many times that of the others ejects, if it is longer
    by a second at least; 0 compares none. Who has a smaller weight, or longer prompts, may be as
    much slower."""
    latency_minimum_hosts: _Hosts = 3
    """Replicas with enough streams that it takes for that."""
    latency_request_volume: _Requests = 10
    """Streams of one replica that are enough for that."""


class Health(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How it is found out whether a replica works, beside its answer to `/health`."""

    token_interval: Duration = Duration(0)
    """After how long without an answer it is asked for one token; 0 for never."""
    token_timeout: Timeout = Timeout(10)
    """How long that may take, unless its own count of steps shows that it works on others."""

"""Where the replicas of a backend are, and how much each of them takes. Only structs."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from backends.units import Timeout

Url = Annotated[
    str,
    Meta(
        pattern=r"^(https?://[^\s/]|unix:/)\S*$",
        description="a URL such as http://host:8000, https://host/v1 or unix:/run/engine.sock",
    ),
]
"""`http://host:port`, `https://…`, or `unix:/path/to/socket`."""


class WeightedReplica(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A replica that can take more, or less, than the others."""

    url: Url
    """Its base URL."""
    weight: Annotated[float, Meta(ge=0.01, le=1000)] = 1.0
    """How much it can take, relative to the other replicas."""


Replicas = Annotated[tuple[Url | WeightedReplica, ...], Meta(min_length=1)]


class SlowStart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a replica that is new, or back, gets to its full weight: Envoy's `slow_start`."""

    window: Timeout = Timeout(30)
    """How long that takes."""
    aggression: Annotated[float, Meta(ge=0.1, le=10)] = 1.0
    """1 is a straight line; more takes on traffic faster at the beginning, less later."""
    min_weight_percent: Annotated[float, Meta(ge=1, le=100)] = 10
    """What it begins with, of its weight."""

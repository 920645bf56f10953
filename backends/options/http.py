"""What every engine over HTTP needs."""

from __future__ import annotations

from typing import Self

import msgspec

from backends.capabilities import Capability
from backends.options.base import Options
from backends.options.discover import Discover
from backends.options.health import Health, OutlierDetection
from backends.options.replicas import SlowStart, WeightedReplica
from backends.secret import Secret


class HttpOptions(Options, frozen=True, kw_only=True):
    """What every engine over HTTP needs."""

    api_key: Secret | None = None
    """Sent to the engine as `Authorization: Bearer`."""
    without: tuple[Capability, ...] = ()
    """What this server cannot do, although its kind can: such requests go elsewhere."""
    slow_start: SlowStart | None = None
    """Have a replica that is new, or back, take on traffic by and by."""
    discover: Discover | None = None
    """Where the replicas are told, in place of `replicas`: by DNS, or in a file."""
    health: Health = Health()
    """How it is found out whether a replica works, beside its answer to `/health`."""
    outlier_detection: OutlierDetection = OutlierDetection()
    """When a replica gets no requests for a while, because it fails them."""

    @property
    def listed(self) -> tuple[str | WeightedReplica, ...]:
        """Its replicas; none for those that the gateway is to start."""
        raise NotImplementedError

    @property
    def urls(self) -> tuple[str, ...]:
        """Where they are."""
        return tuple(one if isinstance(one, str) else one.url for one in self.listed)

    def weight(self, url: str) -> float:
        """How much the replica at `url` can take, relative to the others."""
        weighted = (one for one in self.listed if not isinstance(one, str) and one.url == url)
        return next((one.weight for one in weighted), 1.0)

    def _unplaced(self) -> Self:
        """These options without what tells how much goes where, and when: no engine's business."""
        return msgspec.structs.replace(
            self,
            discover=None,
            slow_start=None,
            health=Health(),
            outlier_detection=OutlierDetection(),
        )

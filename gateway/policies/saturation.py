"""Whether an engine says that it has no room, as opposed to much to do.

The marks are near those of the Gateway API's inference extension (saturation detector: a queue of
5, KV cache used to 80 %); that of the KV cache is higher, because an engine that is well used
stands at 90 % and gets on.
"""

from __future__ import annotations

from backends.load import Demand

LONG_QUEUE = 5
"""Requests that wait inside an engine for a place in its batch."""
FULL = 0.95
"""Share of the KV cache that running requests hold: beyond it engines begin to drop some."""


def is_saturated(demand: Demand, *, long_queue: int = LONG_QUEUE, full: float = FULL) -> bool:
    """Whether an engine that says this has no room; of what it does not say nothing is thought."""
    return demand.waiting >= long_queue or (demand.kv_usage or 0.0) >= full

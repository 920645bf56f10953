"""What servers call the gauges that tell how busy they are. Pure.

The names are those of vLLM's `v1/metrics/loggers.py`, llama.cpp's `tools/server/server-context.cpp`
and SGLang's `metrics/collector.py`. A gauge that is absent is unknown, not zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import NamedTuple

from backends.base import Demand
from backends.metrics_page import total


class Gauges(NamedTuple):
    """What one kind of server calls them."""

    running: bytes
    waiting: bytes


VLLM = Gauges(b"vllm:num_requests_running", b"vllm:num_requests_waiting")
LLAMA_SERVER = Gauges(b"llamacpp:requests_processing", b"llamacpp:requests_deferred")
SGLANG = Gauges(b"sglang:num_running_reqs", b"sglang:num_queue_reqs")

ANY = (VLLM, LLAMA_SERVER, SGLANG)
"""For a server of a kind that is not known."""


def demand_in(page: bytes, kinds: Iterable[Gauges]) -> Demand | None:
    """What `page`, Prometheus metrics, says by the first of `kinds` that is there as a whole."""
    for kind in kinds:
        running, waiting = total(page, {kind.running}), total(page, {kind.waiting})
        if running is not None and waiting is not None and isfinite(running + waiting):
            return Demand(round(running), round(waiting))
    return None

"""What servers call the gauges that tell how busy they are. Pure.

The names are those of vLLM's `v1/metrics/loggers.py`, SGLang's `metrics/collector.py`, TGI's
`router/src/infer` and llama.cpp's `tools/server/server-context.cpp`. A gauge that is absent is
unknown, not zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import NamedTuple

from backends.load import Demand
from backends.metrics_page import mean, total


class Gauges(NamedTuple):
    """What one kind of server calls them."""

    running: bytes
    waiting: bytes
    kv_usage: bytes | None = None
    """The share of its KV cache that is in use; None where it does not tell that."""


VLLM = Gauges(
    b"vllm:num_requests_running", b"vllm:num_requests_waiting", b"vllm:kv_cache_usage_perc"
)
LLAMA_SERVER = Gauges(b"llamacpp:requests_processing", b"llamacpp:requests_deferred")
SGLANG = Gauges(b"sglang:num_running_reqs", b"sglang:num_queue_reqs", b"sglang:token_usage")
TGI = Gauges(b"tgi_batch_current_size", b"tgi_queue_size")

ANY = (VLLM, LLAMA_SERVER, SGLANG, TGI)
"""For a server of a kind that is not known."""


def demand_in(page: bytes, kinds: Iterable[Gauges]) -> Demand | None:
    """What `page`, Prometheus metrics, says by the first of `kinds` that is there as a whole."""
    for kind in kinds:
        running, waiting = total(page, {kind.running}), total(page, {kind.waiting})
        if running is not None and waiting is not None and isfinite(running + waiting):
            return Demand(round(running), round(waiting), _kv_usage(page, kind))
    return None


def _kv_usage(page: bytes, kind: Gauges) -> float | None:
    usage = None if kind.kv_usage is None else mean(page, {kind.kv_usage})
    return usage if usage is not None and isfinite(usage) else None

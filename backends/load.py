"""How busy a replica is, by what an engine in this process counts, or by what another one says."""

from __future__ import annotations

import msgspec


class Load(msgspec.Struct, frozen=True):
    """How busy an engine in this process is. What is counted is counted since it started."""

    running: int
    """Sequences generated together."""
    waiting: int
    """Sequences that wait for a place among them."""
    longest_wait: float = 0.0
    """Seconds for which the first of those that wait has waited."""
    waits: int = 0
    """Requests that got a place."""
    waited: float = 0.0
    """Seconds that they waited for it, all together."""
    kv_tokens: int = 0
    """Tokens of the KV cache that are reserved for the sequences that run."""
    kv_planned: int = 0
    """Tokens of the KV cache that there is memory for; 0 where nobody has planned."""
    cache_queries: int = 0
    """Tokens of prompts that were looked up in the prompt cache."""
    cache_hits: int = 0
    """Those of them that were found there, and not computed again."""
    cache_bytes: int = 0
    """What the prompt cache holds."""
    steps: int = 0
    """How often the batch has got on: a batch that stands still does not count any further."""


class Demand(msgspec.Struct, frozen=True):
    """What is asked of a replica at this moment, by whoever asks it."""

    running: int
    """Requests, or sequences, that it works on."""
    waiting: int
    """Those that wait for a place among them."""
    kv_usage: float | None = None
    """Share of its KV cache that is in use, 0 to 1; None where it does not say."""

    @classmethod
    def of(cls, load: Load) -> Demand:
        """What `load` says of it."""
        usage = load.kv_tokens / load.kv_planned if load.kv_planned else None
        return cls(load.running, load.waiting, usage)

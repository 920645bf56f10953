"""What is known of mlx-lm's caches: what they take, and which can be cut. Engine thread only.

A cache that has been taken out of a batch is never changed again: who puts it into another batch
copies what it needs (`merge`). So one can serve any number of sequences, and cutting it is a matter
of a number beside the arrays.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import ArraysCache, CacheList, RotatingKVCache

from backends.mlx.kv_shape import KvShape

LayerCaches = list[Any]
"""One cache for each layer, of one sequence."""


def can_be_cut(caches: LayerCaches) -> bool:
    """Whether they can be brought back to an earlier token."""
    return all(cache.is_trimmable() for cache in caches)


def cut(caches: LayerCaches, tokens: int) -> LayerCaches:
    """The same without their last `tokens`; shares its arrays with them."""
    if not tokens:
        return caches
    shorter = [_shallow(cache) for cache in caches]
    for cache in shorter:
        cache.trim(tokens)
    return shorter


def nbytes(caches: LayerCaches) -> int:
    """What they hold."""
    return sum(int(cache.nbytes) for cache in caches)


def compute(caches: LayerCaches) -> None:
    """Begin to compute their arrays: MLX is lazy, and would keep the batch that they come from.

    Nobody waits for it: the next step of the batch is on its way already.
    """
    mx.async_eval([cache.state for cache in caches])  # type: ignore[no-untyped-call]


def measure(caches: LayerCaches, tokens: int) -> KvShape:
    """The shape of caches that hold `tokens`, all of them."""
    parts = [part for cache in caches for part in _parts(cache)]
    per_token = per_sequence = 0
    for part in parts:
        if isinstance(part, ArraysCache):
            per_sequence += int(part.nbytes)
        elif isinstance(part, RotatingKVCache):
            per_sequence += int(part.nbytes) // tokens * int(part.max_size)
        else:
            per_token += int(part.nbytes) // tokens
    return KvShape(per_token=per_token, per_sequence=per_sequence, layers=len(caches))


def _parts(cache: Any) -> Sequence[Any]:
    return cache.caches if isinstance(cache, CacheList) else (cache,)


def _shallow(cache: Any) -> Any:
    shallow = copy.copy(cache)
    if isinstance(cache, CacheList):
        shallow.caches = tuple(_shallow(part) for part in cache.caches)
    return shallow

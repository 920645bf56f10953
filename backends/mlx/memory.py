"""What a model will take of this machine's memory, from its files, before any of it is loaded.

Rules of this file:

- It reads config.json and the headers of the weights, and imports no MLX.
- What is planned is kept: the batch never grows past `KvPlan` (`backends.inprocess.admission`).

mlx-lm keeps the caches of a batch as one block, in which shorter sequences are padded to the
longest, and which grows by 256 tokens at a time. So what counts is the number of sequences times
the longest of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from backends.inprocess.runtime import KvPlan
from backends.memory import Footprint, written
from backends.mlx.adapter_files import size_of
from backends.mlx.kv_shape import KvShape, kv_shape
from backends.mlx.safetensors_header import Tensor, read_headers

UNKNOWN_CONTEXT = 32768
"""Where a model does not say how much it can read (state-space models have no limit)."""
_CONTEXT_FIELDS = ("max_position_embeddings", "max_sequence_length", "seq_length", "n_positions")
_ITEM = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_GROWTH = 256
"""Tokens by which mlx-lm's caches grow."""
_SHARE_OF_FREE = 4
"""The KV cache gets at most a quarter of what the weights leave of the machine, unless it is told
its size: so two or three models fit beside each other without anybody counting."""
_SHARE_OF_KV = 4
"""The prompt cache gets a quarter of the KV cache's size, unless it is told its own."""
_LEAST_CONTEXT = 128
"""Tokens: who has less room than that wants to know."""
_MARGIN = 64 << 20
"""Bytes: the library itself, its kernels, what the allocator keeps."""


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration says; None for what it leaves open. Sizes are in bytes."""

    max_batch: int
    context: int | None = None
    kv_cache: int | None = None
    prompt_cache: int | None = None
    adapters: tuple[str, ...] = ()
    """Directories of LoRA adapters."""


class MemoryPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is decided before loading."""

    footprint: Footprint
    kv: KvPlan
    context: int
    """Tokens that prompt and answer may have together."""
    made_for: int
    """Those that the model can read."""

    def measured(self, shape: KvShape, wishes: Wishes) -> MemoryPlan:
        """The same bytes, for a cache whose `shape` is known by now. Raises `TooSmall`."""
        kv = kv_plan(
            shape,
            self.footprint.kv_cache,
            max_batch=wishes.max_batch,
            context=self.context,
            slack=self.kv.slack,
        )
        return msgspec.structs.replace(self, kv=kv, context=min(self.context, kv.tokens - kv.slack))


class TooSmall(ValueError):
    """The KV cache would hold no sequence worth the name; the message has the numbers."""


def plan(
    directory: Path,
    wishes: Wishes,
    *,
    memory: int,
    step: int,
    pictures: int = 0,
) -> MemoryPlan:
    """Decide how the model in `directory` uses `memory` bytes.

    `step` is how many tokens of a prompt are read at a time, `pictures` what looking at pictures
    takes (`backends.mlx.vision.memory`). Raises `ValueError`, `OSError`.
    """
    config = of_text(read_config(directory))
    tensors = read_headers(directory)
    weights = sum(tensor.nbytes for tensor in tensors.values())
    item = _item(tensors)
    adapters = size_of(map(Path, wishes.adapters), item)
    shape = kv_shape(config, item)
    model_context = context_length(config)
    context = min(model_context, wishes.context or model_context)
    slack = _GROWTH + step
    whole = wishes.max_batch * ((context + slack) * shape.per_token + shape.per_sequence)
    kv_cache = wishes.kv_cache
    if kv_cache is None:
        kv_cache = min(whole, max(0, memory - weights - adapters - pictures) // _SHARE_OF_FREE)
    kv = kv_plan(shape, kv_cache, max_batch=wishes.max_batch, context=context, slack=slack)
    prompt_cache = wishes.prompt_cache
    if prompt_cache is None:
        prompt_cache = kv_cache // _SHARE_OF_KV
    longest = min(context, kv.tokens - slack)
    footprint = Footprint(
        name=str(directory),
        weights=weights,
        adapters=adapters,
        kv_cache=kv_cache,
        overhead=_overhead(config, shape, weights, kv_cache, rows=wishes.max_batch, step=step),
        prompt_cache=prompt_cache,
        pictures=pictures,
        context=longest,
        concurrency=wishes.max_batch,
        whole=kv.tokens // (longest + slack),
        kv_given=wishes.kv_cache is not None,
        bytes_per_token=shape.per_token,
        estimated=shape.estimated,
    )
    return MemoryPlan(footprint=footprint, kv=kv, context=footprint.context, made_for=model_context)


def kv_plan(shape: KvShape, kv_cache: int, *, max_batch: int, context: int, slack: int) -> KvPlan:
    """What of a cache of `kv_cache` bytes the sequences can have. Raises `TooSmall`."""
    tokens = max_batch * (context + slack)
    if shape.per_token:
        growing = kv_cache - max_batch * shape.per_sequence
        tokens = min(tokens, growing // shape.per_token)
    if tokens - slack < min(_LEAST_CONTEXT, context):
        needed = (min(context, 4096) + slack) * shape.per_token + max_batch * shape.per_sequence
        raise TooSmall(
            f"its KV cache of {written(max(kv_cache, 0))} holds {max(tokens, 0)} tokens at "
            f"{written(shape.per_token)} each, which is too little for one sequence; give it "
            f"{written(needed)} or more (`kv_cache`)"
        )
    return KvPlan(tokens=tokens, slack=slack, rectangular=True)


def read_config(directory: Path) -> dict[str, Any]:
    """What config.json says. Raises `ValueError`, `OSError`."""
    path = directory / "config.json"
    try:
        config = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON object: {error}") from error
    return config


def of_text(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with what a model of text and images says of its text."""
    text = config.get("text_config")
    return {**config, **text} if isinstance(text, dict) else dict(config)


def context_length(config: Mapping[str, Any]) -> int:
    """How many tokens the model can read."""
    sizes = (config.get(field) for field in _CONTEXT_FIELDS)
    return next((size for size in sizes if isinstance(size, int) and size > 0), UNKNOWN_CONTEXT)


def _item(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of a number in the KV cache: it has the type that the model computes in.

    With quantized weights that is the type of their scales.
    """
    scales = [tensor for name, tensor in tensors.items() if name.endswith(".scales")]
    by_type: dict[str, int] = {}
    for tensor in scales or tensors.values():
        if tensor.dtype in _ITEM:
            by_type[tensor.dtype] = by_type.get(tensor.dtype, 0) + tensor.nbytes
    return _ITEM[max(by_type, key=lambda name: by_type[name])] if by_type else 2


def _overhead(
    config: Mapping[str, Any], shape: KvShape, weights: int, kv_cache: int, *, rows: int, step: int
) -> int:
    """What is needed beside weights and caches: numbers on their way, and a copy of a layer's
    cache while the batch changes its shape."""
    hidden = _size(config, "hidden_size")
    inner = max(_size(config, "intermediate_size"), 2 * hidden)
    activations = min(rows, 8) * step * (8 * hidden + 3 * inner) * 4
    logits = rows * _size(config, "vocab_size") * 4 * 4
    copies = 3 * kv_cache // max(1, shape.layers)
    return _MARGIN + activations + logits + copies + weights // 20


def _size(config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    return value if isinstance(value, int) else 0

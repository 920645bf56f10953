"""Gemma 3's way to read images: what stands for one looks at itself in both directions.

mlx-vlm (0.7) reads them as it reads text, each token looking backwards only; the model was trained
with the other (Gemma 3 report, 2025, and Hugging Face's `token_type_ids_mask_function`). So its
layers are called here, with masks of our own. Engine thread only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from backends.mlx.vision.look import Part
from backends.mlx.vision.sight import runs

Seen = Sequence[tuple[int, Part]]
"""What is seen in a piece of some prompts, with the row that it is in."""


def read_in_blocks(
    language: Any, tokens: mx.array, seen: Seen, *, inputs_embeds: mx.array, cache: list[Any]
) -> mx.array:
    """The logits of `tokens`, in which no image is cut; `language` is mlx-vlm's model of text."""
    body = language.model
    block = _blocks(tokens.shape, seen)
    every = body.sliding_window_pattern
    anywhere = _opened(cache[every - 1], block, None)
    nearby = _opened(cache[0], block, body.window_size) if every > 1 else anywhere
    hidden = inputs_embeds
    hidden = hidden * mx.array(body.config.hidden_size**0.5, mx.bfloat16).astype(hidden.dtype)
    for at, (layer, layer_cache) in enumerate(zip(body.layers, cache, strict=True)):
        hidden = layer(hidden, nearby if (at + 1) % every else anywhere, layer_cache)
    logits: mx.array = language.lm_head(body.norm(hidden))
    return logits


def _blocks(shape: tuple[int, ...], seen: Seen) -> mx.array:
    """Which tokens are of the same part of an image, [rows, 1, width, width]."""
    block, count = np.zeros(shape, dtype=np.int32), 0
    for row, part in seen:
        for places in runs(part.places):
            count += 1
            block[row, places] = count
    same = (block[:, :, None] == block[:, None, :]) & (block > 0)[:, :, None]
    return mx.array(same[:, None])


def _opened(cache: Any, block: mx.array, window: int | None) -> mx.array:
    """The mask of a layer, [rows, 1, width, keys], opened within `block`: the last keys."""
    rows, _, width, _ = block.shape
    mask: mx.array = cache.make_mask(width, window_size=window, return_array=True)
    mask = mx.broadcast_to(mask, (rows, 1, *mask.shape[-2:]))
    return mx.concatenate([mask[..., :-width], mask[..., -width:] | block], axis=-1)

"""A model of mlx-vlm as the batch calls it: rows of text and rows with images, together.

Rules of this file:

- The model is told what it is called with (`reading`) and keeps nothing of it. mlx-vlm's own
  language models keep the positions of the last prompt; that part of them is not called.
- A row gets the same numbers in any company.

Importing this file imports MLX. Engine thread only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache, RotatingKVCache

from backends.mlx.vision.blocks import Seen, read_in_blocks
from backends.mlx.vision.family import Family
from backends.mlx.vision.look import Features, Look
from backends.mlx.vision.sight import Image

_INPUTS = "pixel_values"
_KEEPING: Callable[..., Any] = KVCache
_ROTATING: Callable[..., Any] = RotatingKVCache


class _Reading:
    """What the model is called with: whose tokens, and from where on."""

    __slots__ = ("looks", "starts")

    def __init__(self, looks: Sequence[Look | None], starts: Sequence[int]) -> None:
        self.looks = looks
        self.starts = list(starts)


class SeeingModel:
    """`model` is mlx-vlm's; to the batch and to adapters it looks as a model of mlx-lm does."""

    def __init__(self, model: Any, family: Family) -> None:
        self._model = model
        self._family = family
        self._reading: _Reading | None = None
        self.language_model = model.language_model
        self.layers = model.layers

    def make_cache(self) -> list[Any]:
        """A cache for each layer, of mlx-lm's kinds: mlx-vlm's own do not go into its batch."""
        make = getattr(self.language_model, "make_cache", None)
        if make is None:
            return [_KEEPING() for _ in self.layers]
        return [_as_ours(cache) for cache in make()]

    def parameters(self) -> Any:
        """All of them, the encoder's too."""
        return self._model.parameters()

    def named_modules(self) -> list[tuple[str, Any]]:
        """Those of the language model: adapters of an image encoder are not served."""
        modules = self._model.named_modules()
        return [one for one in modules if one[0].startswith("language_model.")]

    def update_modules(self, modules: Any) -> None:
        """Put others in their places."""
        self._model.update_modules(modules)

    @contextmanager
    def reading(self, looks: Sequence[Look | None], starts: Sequence[int]) -> Iterator[None]:
        """While this lasts, it is called with rows that have `looks`.

        `starts` says how many tokens each has read before.
        """
        self._reading = _Reading(looks, starts)
        try:
            yield
        finally:
            self._reading = None

    def look_at(self, image: Image) -> Features:
        """Run the encoder; computed when this returns."""
        tokens = mx.array([image.tokens])
        inputs = {name: mx.array(array) for name, array in image.inputs.items()}
        pixels = inputs.pop(_INPUTS)
        made = self._model.get_input_embeddings(tokens, pixels, mask=mx.ones_like(tokens), **inputs)
        places = mx.array(np.flatnonzero(np.asarray(image.tokens) == image.token))
        deeper = made.deepstack_visual_embeds
        features = Features(made.inputs_embeds[0][places], () if deeper is None else tuple(deeper))
        mx.eval(features.rows, *features.deeper)
        return features

    def __call__(self, tokens: mx.array, cache: list[Any] | None = None) -> mx.array:
        rows, width = tokens.shape
        reading = self._reading or _Reading([None] * rows, [0] * rows)
        starts, reading.starts = reading.starts, [start + width for start in reading.starts]
        seen = [
            (row, part)
            for row, (look, start) in enumerate(zip(reading.looks, starts, strict=True))
            if look is not None
            for part in look.within(start, start + width)
        ]
        options: dict[str, Any] = {"cache": cache}
        if seen:
            options["inputs_embeds"] = self._filled_in(tokens, seen)
        if self._family.positions == "grid":
            options["position_ids"] = _positions(reading.looks, starts, width)
            return self._on_grid(tokens, seen, options)
        if seen and self._family.whole:
            return read_in_blocks(self.language_model, tokens, seen, **options)
        logits: mx.array = self.language_model(tokens, **options).logits
        return logits

    def _filled_in(self, tokens: mx.array, seen: Seen) -> mx.array:
        """The embeddings of `tokens`, and what is seen in their place."""
        inner = getattr(self.language_model, "model", self.language_model)
        embeds: mx.array = inner.embed_tokens(tokens)
        for row, part in seen:
            embeds[row, mx.array(part.places)] = part.features.rows.astype(embeds.dtype)
        return embeds

    def _on_grid(self, tokens: mx.array, seen: Seen, options: dict[str, Any]) -> mx.array:
        language = self.language_model
        if depth := max((len(part.features.deeper) for _, part in seen), default=0):
            mask = np.zeros(tokens.shape, dtype=np.bool_)
            for row, part in seen:
                mask[row, part.places] = True
            options["visual_pos_masks"] = mx.array(mask)
            options["deepstack_visual_embeds"] = [
                mx.concatenate([part.features.deeper[layer] for _, part in seen])
                for layer in range(depth)
            ]
        hidden: mx.array = language.model(tokens, **options)
        if language.args.tie_word_embeddings:
            logits: mx.array = language.model.embed_tokens.as_linear(hidden)
        else:
            logits = language.lm_head(hidden)
        return logits


def _positions(looks: Sequence[Look | None], starts: Sequence[int], width: int) -> mx.array:
    """Where the tokens of each row stand, [3, rows, width]."""
    counted = np.arange(width, dtype=np.int32)
    places = np.array(starts, dtype=np.int32)[:, None] + counted
    found = np.tile(places, (3, 1, 1))
    for row, look in enumerate(looks):
        if look is None or (inside := look.sight.positions) is None:
            continue
        inside = inside[:, starts[row] : starts[row] + width]
        found[:, row] += look.sight.ahead
        found[:, row, : inside.shape[1]] = inside
    return mx.array(found)


def _as_ours(cache: Any) -> Any:
    match type(cache).__name__:
        case "KVCache":
            return _KEEPING()
        case "RotatingKVCache":
            return _ROTATING(max_size=cache.max_size, keep=cache.keep)
        case name:
            raise ValueError(f"a cache of kind {name} does not go into the batch")

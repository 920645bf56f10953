"""Texts to vectors, with a model that was loaded to generate: its last hidden states, pooled.

These models look backwards only. So texts of different lengths are padded on the right: what
stands there changes nothing before it, and is left out of the pooling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx

from backends.base import RequestRefused
from backends.mlx.model import read_json

Pooling = Literal["mean", "last", "cls"]
_BODIES = ("model", "transformer", "gpt_neox", "backbone")
"""What mlx-lm's models call the part without the head."""


def embed(model: Any, prompts: Sequence[Sequence[int]], pooling: Pooling) -> list[list[float]]:
    """A vector of length one for each of `prompts`, which are token ids, at least one each.

    Raises `RequestRefused` for a model of which no hidden states can be had.
    """
    body = _body(model)
    lengths = [len(prompt) for prompt in prompts]
    width = max(lengths)
    tokens = mx.array([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts])
    hidden = body(tokens)
    if not isinstance(hidden, mx.array) or hidden.ndim != 3:
        raise _no_states(model)
    vectors = _pooled(hidden.astype(mx.float32), mx.array(lengths), pooling)
    norms = mx.maximum(mx.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    found: Any = (vectors / norms).tolist()
    return list(found)


def embedding_sizes(config: Mapping[str, Any]) -> Sequence[int] | None:
    """What a model's embeddings can be cut to, from its config.json, in the fields vLLM reads."""
    sizes = config.get("matryoshka_dimensions")
    if isinstance(sizes, list):
        return [size for size in sizes if isinstance(size, int)]
    return () if config.get("is_matryoshka") else None


def pooling_of(directory: Path, chosen: str) -> Pooling:
    """`chosen`, or where that is `auto` what a sentence-transformers model says, else the mean."""
    match chosen:
        case "mean" | "last" | "cls":
            return chosen
    said = read_json(directory / "1_Pooling" / "config.json")
    if said.get("pooling_mode_lasttoken"):
        return "last"
    return "cls" if said.get("pooling_mode_cls_token") else "mean"


def _pooled(hidden: mx.array, lengths: mx.array, pooling: Pooling) -> mx.array:
    """[texts, tokens, features] to [texts, features]."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        return mx.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)[:, 0]
    inside = mx.arange(hidden.shape[1])[None, :] < lengths[:, None]
    return mx.where(inside[:, :, None], hidden, 0).sum(axis=1) / lengths[:, None]


def _body(model: Any) -> Any:
    model = getattr(model, "language_model", model)
    for name in _BODIES:
        body = getattr(model, name, None)
        if callable(body):
            return body
    raise _no_states(model)


def _no_states(model: Any) -> RequestRefused:
    kind = type(model).__module__.rpartition(".")[2]
    return RequestRefused(
        501, f"MLX gives no hidden states of a {kind} model to make embeddings of"
    )

"""Texts to vectors, with a model that was loaded to generate: its last hidden states, pooled.

Rules of this file:

- No more tokens are computed at a time than of a prompt between two steps of the batch: short texts
  together, a long one piece by piece, with a KV cache of its own. So whoever generates goes on, and
  memory is taken for a piece and for one text's cache.
- These models look backwards only. So texts of different lengths are padded on the right: what
  stands there changes nothing before it, and is left out of the pooling.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from backends.base import RequestRefused
from backends.inprocess.pooling import Pooling, chosen_pooling
from backends.mlx.caches import nbytes
from backends.mlx.model import read_json

_BODIES = ("model", "transformer", "gpt_neox", "backbone")
"""What mlx-lm's models call the part without the head."""


def embed(
    model: Any,
    prompts: Sequence[Sequence[int]],
    pooling: Pooling,
    *,
    step: int,
    make_room: Callable[[int], None],
) -> Generator[None, None, list[list[float]]]:
    """A vector of length one for each of `prompts`, which are token ids, at least one each.

    Yields after every `step` tokens or so. `make_room` hears how many bytes a long text's cache
    has by now. Raises `RequestRefused` for a model of which no hidden states can be had.
    """
    text_model = _text_model(model)
    body = _body(text_model)
    if body is None:
        raise _no_states(text_model)
    vectors: dict[int, list[float]] = {}
    for places in _together([len(prompt) for prompt in prompts], step):
        if vectors:
            yield
        batch = [prompts[place] for place in places]
        if len(batch[0]) > step and _takes_cache(body):
            caches = make_prompt_cache(text_model)
            pooled = yield from _long(body, batch[0], pooling, caches, step, make_room)
        else:
            # What mlx-vlm calls the text model of Qwen3-VL-MoE cannot do without.
            inner = text_model is not model and _takes_cache(body)
            fresh = make_prompt_cache(text_model) if inner else None
            pooled = _short(body, batch, pooling, fresh)
        norms = mx.maximum(mx.linalg.norm(pooled, axis=-1, keepdims=True), 1e-12)
        found: Any = (pooled / norms).tolist()
        vectors |= zip(places, found, strict=True)
    return [vectors[place] for place in range(len(prompts))]


def gives_states(model: Any) -> bool:
    """Whether `model` has a part that hidden states could be had of."""
    return _body(_text_model(model)) is not None


def _text_model(model: Any) -> Any:
    """Of a model of texts and images what reads texts; any other as it is."""
    return getattr(model, "language_model", model)


def _together(lengths: Sequence[int], step: int) -> Iterator[list[int]]:
    """Places of the texts that make a piece of at most `step` tokens, padding included.

    Those of like length go together; one that is longer than a piece goes alone.
    """
    places: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if places and lengths[place] * (len(places) + 1) > step:
            yield places
            places = []
        places.append(place)
    if places:
        yield places


def _short(
    body: Any, prompts: Sequence[Sequence[int]], pooling: Pooling, caches: list[Any] | None
) -> mx.array:
    """[texts, features], of texts that are computed at once."""
    lengths = [len(prompt) for prompt in prompts]
    width = max(lengths)
    tokens = mx.array([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts])
    return _pooled(_states(body, tokens, caches), mx.array(lengths), pooling)


def _long(
    body: Any,
    prompt: Sequence[int],
    pooling: Pooling,
    caches: list[Any],
    step: int,
    make_room: Callable[[int], None],
) -> Generator[None, None, mx.array]:
    """[1, features], of one text that is computed piece by piece."""
    pooled: mx.array | None = None
    for begin in range(0, len(prompt), step):
        if begin:
            yield
        hidden = _states(body, mx.array([prompt[begin : begin + step]]), caches)
        if pooling == "mean":
            total = hidden.sum(axis=1)
            pooled = total if pooled is None else pooled + total
        elif pooling == "last" or pooled is None:
            pooled = hidden[:, -1 if pooling == "last" else 0]
        mx.eval(pooled, [cache.state for cache in caches])
        make_room(nbytes(caches))
    assert pooled is not None, "a text has a token"
    return pooled / len(prompt) if pooling == "mean" else pooled


def _states(body: Any, tokens: mx.array, caches: list[Any] | None = None) -> mx.array:
    """The last hidden states: [texts, tokens, features], in single precision."""
    hidden = body(tokens) if caches is None else body(tokens, cache=caches)
    if not isinstance(hidden, mx.array) or hidden.ndim != 3:
        raise _no_states(body)
    return hidden.astype(mx.float32)


def _takes_cache(body: Any) -> bool:
    """Whether it can go on from what it has computed; else a text is one piece."""
    return "cache" in inspect.signature(body).parameters


def embedding_sizes(config: Mapping[str, Any]) -> Sequence[int] | None:
    """What a model's embeddings can be cut to, from its config.json, in the fields vLLM reads."""
    sizes = config.get("matryoshka_dimensions")
    if isinstance(sizes, list):
        return [size for size in sizes if isinstance(size, int)]
    return () if config.get("is_matryoshka") else None


def pooling_of(directory: Path, chosen: str) -> Pooling:
    """`chosen`, or where that is `auto` what a sentence-transformers model says, else the mean."""
    config = read_json(directory / "1_Pooling" / "config.json")
    said: Pooling | None = "cls" if config.get("pooling_mode_cls_token") else None
    if config.get("pooling_mode_lasttoken"):
        said = "last"
    return chosen_pooling(chosen, said)


def _pooled(hidden: mx.array, lengths: mx.array, pooling: Pooling) -> mx.array:
    """[texts, tokens, features] to [texts, features]."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        return mx.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)[:, 0]
    inside = mx.arange(hidden.shape[1])[None, :] < lengths[:, None]
    return mx.where(inside[:, :, None], hidden, 0).sum(axis=1) / lengths[:, None]


def _body(model: Any) -> Any | None:
    """`model` without its head; None where it is all of one piece."""
    for name in _BODIES:
        body = getattr(model, name, None)
        if callable(body):
            return body
    return None


def _no_states(model: Any) -> RequestRefused:
    kind = type(model).__module__.rpartition(".")[2]
    return RequestRefused(
        501, f"MLX gives no hidden states of a {kind} model to make embeddings of"
    )

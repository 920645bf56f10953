"""Embeddings from an engine in this process: batch after batch, between the steps of others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from backends.inprocess.embeddings import (
    EmbeddingRequest,
    Vector,
    answer,
    batches,
    check_input,
    parse_embedding,
    shortened,
)
from backends.inprocess.engine import Engine
from backends.inprocess.runtime import Runtime
from backends.inprocess.work import Pieces


async def embed(engine: Engine, runtime: Runtime, body: bytes, *, model: str) -> bytes:
    """The body of the answer to `body`; `model` is its name where the request has none.

    Sequences that generate go on between two batches. Raises `BackendError`.
    """
    params = parse_embedding(body)
    # In a worker thread: there may be thousands of texts.
    prompts = await asyncio.to_thread(_prompts, runtime, params)
    lengths = [len(prompt) for prompt in prompts]
    vectors: list[Vector] = [()] * len(prompts)
    for places in batches(lengths):
        batch = [prompts[place] for place in places]
        found: Sequence[Vector] = await engine.run_pieces(partial(_embed, batch))
        if params.dimensions is not None:
            found = await asyncio.to_thread(_shortened, found, params.dimensions, runtime)
        for place, vector in zip(places, found, strict=True):
            vectors[place] = vector
    # In a worker thread as well: they may be two million numbers.
    return await asyncio.to_thread(
        answer,
        vectors,
        model=params.model or model,
        tokens=sum(lengths),
        as_base64=params.encoding_format == "base64",
    )


def _shortened(vectors: Sequence[Vector], dimensions: int, runtime: Runtime) -> list[Vector]:
    return [shortened(vector, dimensions, runtime.embedding_sizes) for vector in vectors]


def _embed(batch: list[list[int]], runtime: Runtime) -> Pieces[list[list[float]]]:
    return runtime.embed(batch)


def _prompts(runtime: Runtime, params: EmbeddingRequest) -> list[list[int]]:
    """Token ids of each input, of a length that the model can read."""
    prompts = [
        runtime.prompts.text(given, param="input", whole=True) if isinstance(given, str) else given
        for given in params.inputs
    ]
    for prompt in prompts:
        check_input(prompt, context=runtime.context, vocabulary=runtime.vocabulary)
    return prompts

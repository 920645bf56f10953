"""Embeddings from an engine in this process: batch after batch, between the steps of others."""

from __future__ import annotations

import asyncio
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
        found = await engine.run(partial(_embed, batch))
        for place, vector in zip(places, found, strict=True):
            vectors[place] = shortened(vector, params.dimensions, runtime.embedding_sizes)
    return answer(
        vectors,
        model=params.model or model,
        tokens=sum(lengths),
        as_base64=params.encoding_format == "base64",
    )


def _embed(batch: list[list[int]], runtime: Runtime) -> list[list[float]]:
    return runtime.embed(batch)


def _prompts(runtime: Runtime, params: EmbeddingRequest) -> list[list[int]]:
    """Token ids of each input, of a length that the model can read."""
    prompts = [
        runtime.prompts.text(given, param="input") if isinstance(given, str) else given
        for given in params.inputs
    ]
    for prompt in prompts:
        check_input(prompt, context=runtime.context, vocabulary=runtime.vocabulary)
    return prompts

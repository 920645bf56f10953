"""The same weights make the same vectors, by whichever engine."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from backends.base import Endpoint
from backends.capabilities import Capability
from backends.options import LlamaServerOptions
from gateway.conform.finding import Outcome
from gateway.conform.probes import try_capability
from gateway.conform.promises import EMBEDS, cosine, hold, whole
from tests.contract.conftest import ENGINES, MLX, opened
from tests.support.engines import LLAMA_CPP, LLAMA_SERVER, has_llama_cpp

TEXTS = ["The capital of Spain is Madrid.", "Five minus two is three.", "Mia"]


@pytest.mark.slow
async def test_vectors_are_close_across_engines(start_llama_server):
    """Mean pooling, said to llama-server; the others take it where the model says nothing."""
    server = start_llama_server("--embeddings", "--pooling", "mean", "--kv-unified")
    kinds = {
        MLX: ENGINES[MLX],
        LLAMA_SERVER: lambda _: LlamaServerOptions(replicas=(server.url,)),
        **({LLAMA_CPP: ENGINES[LLAMA_CPP]} if has_llama_cpp() else {}),
    }
    vectors, counts = {}, {}
    async with AsyncExitStack() as stack:
        for name, options in kinds.items():
            target = await stack.enter_async_context(opened(name, options(lambda _: server.url)))
            found = await try_capability(target, Capability.EMBEDDINGS)
            assert found.outcome is Outcome.KEPT, found
            found = await hold(target, EMBEDS)
            assert found.outcome is Outcome.KEPT, found
            said = await whole(target, Endpoint.EMBEDDINGS, {"input": TEXTS})
            vectors[name] = [one["embedding"] for one in said["data"]]
            counts[name] = said["usage"]["prompt_tokens"]
    reference = vectors[LLAMA_SERVER]
    for name, made in vectors.items():
        for mine, theirs in zip(made, reference, strict=True):
            assert cosine(mine, theirs) > 0.999, name
    assert cosine(reference[0], reference[1]) < 0.99, "any text is like any other"
    assert len(set(counts.values())) == 1, counts


@pytest.mark.slow
async def test_an_engine_that_mixes_texts_up_is_found_out(start_llama_server):
    """llama-server pools wrongly over several slots that have a KV cache each."""
    server = start_llama_server("--embeddings", "--pooling", "mean", "--no-kv-unified")
    options = LlamaServerOptions(replicas=(server.url,))
    async with opened(LLAMA_SERVER, options) as target:
        found = await hold(target, EMBEDS)
    assert found.outcome is Outcome.BROKEN
    assert "in a list" in found.detail

import json

import numpy as np
import pytest

from backends.base import Endpoint, Request, RequestRefused
from backends.inprocess.backend import ADDRESS
from backends.llama_cpp.embedding import pooling_of
from backends.llama_cpp.gguf_header import GgufHeader
from tests.backends.mlx.conftest import user
from tests.support.engines import MODEL_DIR
from tests.support.gguf import tiny_bert

TEXTS = ["The cat sat on the mat.", "What is the capital of Spain?", "Once upon a time " * 100]


async def vectors(client, texts):
    body = json.dumps({"input": texts}).encode()
    reply = await client.backend.send(ADDRESS, Request(endpoint=Endpoint.EMBEDDINGS, body=body))
    answer = json.loads(b"".join([piece async for piece in reply.body]))
    return np.array([one["embedding"] for one in answer["data"]]), answer["usage"]


@pytest.mark.parametrize(
    ("said", "chosen", "pooling"),
    [
        (None, "auto", "mean"), (1, "auto", "mean"), (2, "auto", "cls"), (3, "auto", "last"),
        (2, "last", "last"), (3, "mean", "mean"), (None, "cls", "cls"),
    ],
)  # fmt: skip
def test_what_the_file_says_or_routing_yaml(said, chosen, pooling):
    metadata = {"general.architecture": "x"} | ({} if said is None else {"x.pooling_type": said})
    assert pooling_of(GgufHeader(metadata, 0), chosen) == pooling


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["mean", "last", "cls"])
async def test_vectors_are_those_of_mlx(open_client, pooling):
    from backends.options import MlxOptions
    from tests.backends.mlx.conftest import Client

    async with open_client(pooling=pooling) as client:
        ours, usage = await vectors(client, TEXTS)
    backend = MlxOptions(model=str(MODEL_DIR), pooling=pooling).open("mlx")
    try:
        await backend.start()
        theirs, their_usage = await vectors(Client(backend), TEXTS)
    finally:
        await backend.stop()
    assert usage == their_usage
    assert np.linalg.norm(ours, axis=1) == pytest.approx(1, abs=1e-5)
    assert (ours * theirs).sum(axis=1).min() > 0.999


async def test_vectors_are_those_of_llama_server(client, start_llama_server):
    server = start_llama_server("--embeddings", "--pooling", "mean", "--ubatch-size", "1024")
    theirs = []
    for text in TEXTS:  # one by one: of several at once, some are not what they are alone
        status, answer = server.post("/v1/embeddings", {"input": text})
        assert status == 200
        theirs.append(answer["data"][0]["embedding"])
    ours, _ = await vectors(client, TEXTS)
    assert (ours * theirs).sum(axis=1).min() > 0.999


class TestEmbeddingModels:
    """Models that look at a whole text at once, and write none."""

    async def test_vectors_are_those_of_llama_server(
        self, tmp_path, open_client, start_llama_server
    ):
        texts = ["the cat sat on the mat", "a dog", "the"]
        file = tiny_bert(tmp_path / "bert.gguf")
        server = start_llama_server(
            "--model", str(file), "--embeddings", "--ctx-size", "64", "--parallel", "1"
        )
        theirs, tokens = [], 0
        for text in texts:
            status, answer = server.post("/v1/embeddings", {"input": text})
            assert status == 200, answer
            theirs.append(answer["data"][0]["embedding"])
            tokens += answer["usage"]["prompt_tokens"]
        async with open_client(model=str(file)) as client:
            ours, usage = await vectors(client, texts)
        assert usage["prompt_tokens"] == tokens
        assert (ours * theirs).sum(axis=1).min() > 0.999

    async def test_they_write_no_text(self, tmp_path, open_client):
        async with open_client(model=str(tiny_bert(tmp_path / "bert.gguf"))) as client:
            for body in ({"messages": user("a cat")}, {"prompt": "a cat"}, {"prompt": [5, 6]}):
                with pytest.raises(RequestRefused, match="use /v1/embeddings"):
                    await client.send(**body)

    async def test_a_text_too_long_says_both_numbers(self, tmp_path, open_client):
        async with open_client(model=str(tiny_bert(tmp_path / "bert.gguf"))) as client:
            with pytest.raises(RequestRefused) as caught:
                await vectors(client, ["the cat " * 60])
        assert caught.value.code == "context_length_exceeded"
        assert "has 122 tokens, but this model's context holds 64" in caught.value.message

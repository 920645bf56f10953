import base64
import json
import math
import shutil
import struct

import httpx
import mlx.core as mx
import pytest

from backends.base import Endpoint, Request, RequestRefused
from backends.inprocess.backend import ADDRESS
from backends.inprocess.params import Sampling
from backends.inprocess.runtime import SequenceSpec
from backends.mlx import embedding, model
from backends.mlx.embedding import embed
from backends.mlx.model import prefill_step

TEXTS = [
    "Once upon a time",
    "What is the capital of Spain?",
    "Count from 1 to 30. " * 40,
    "a",
    "Tell me a story about Mia.",
]


async def embeddings(client, **body):
    """The answer of `/v1/embeddings`."""
    request = Request(
        endpoint=Endpoint.EMBEDDINGS, body=json.dumps({"model": "tale", **body}).encode()
    )
    reply = await client.backend.send(ADDRESS, request)
    return json.loads(b"".join([piece async for piece in reply.body]))


async def vectors(client, texts, **body):
    answer = await embeddings(client, input=texts, **body)
    return [item["embedding"] for item in answer["data"]]


async def refused(client, **body):
    with pytest.raises(RequestRefused) as caught:
        await embeddings(client, **body)
    return caught.value


def drained(pieces):
    """What comes of pieces of work, and how often they let others have a turn."""
    yields = 0
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            return end.value, yields
        yields += 1


def cosine(one, other):
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return dot / (math.hypot(*one) * math.hypot(*other))


def copied(model_dir, directory, **config):
    """The model that ships, with other fields in its config.json."""
    shutil.copytree(model_dir, directory, ignore=shutil.ignore_patterns("*.gguf", "adapters"))
    known = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**known, **config}))
    return directory


class TestVectors:
    async def test_they_have_length_one_and_tell_texts_apart(self, client):
        found = await vectors(client, TEXTS)
        assert len(found) == len(TEXTS)
        assert all(math.isclose(math.hypot(*vector), 1, abs_tol=1e-5) for vector in found)
        assert cosine(found[0], found[1]) < 0.99
        assert cosine(found[0], found[0]) == pytest.approx(1)

    @pytest.mark.slow
    @pytest.mark.parametrize("pooling", ["mean", "last", "cls"])
    async def test_in_a_batch_a_text_gives_what_it_gives_alone(self, open_client, pooling):
        async with open_client(pooling=pooling) as client:
            together = await vectors(client, TEXTS)
            alone = [(await vectors(client, text))[0] for text in TEXTS]
        for one, other in zip(together, alone, strict=True):
            assert one == pytest.approx(other, abs=1e-5)

    async def test_pooling_is_what_a_sentence_model_says(self, model_dir, tmp_path, open_client):
        path = copied(model_dir, tmp_path / "model")
        (path / "1_Pooling").mkdir()
        says = {"pooling_mode_mean_tokens": False, "pooling_mode_lasttoken": True}
        (path / "1_Pooling" / "config.json").write_text(json.dumps(says))
        async with open_client(model=str(path)) as auto, open_client(pooling="last") as last:
            assert await vectors(auto, "Hello") == await vectors(last, "Hello")

    async def test_texts_and_their_tokens_are_the_same(self, client):
        tokens = client.backend._runtime.prompts.text("Once upon a time")
        assert await vectors(client, tokens) == await vectors(client, "Once upon a time")
        assert await vectors(client, [tokens]) == await vectors(client, ["Once upon a time"])

    async def test_base64_holds_the_same_numbers(self, client):
        (plain,) = await vectors(client, "Hello")
        (packed,) = await vectors(client, "Hello", encoding_format="base64")
        raw = base64.b64decode(packed)
        assert list(struct.unpack(f"<{len(plain)}f", raw)) == pytest.approx(plain, abs=1e-7)

    async def test_usage_counts_every_text(self, client):
        text = client.backend._runtime.prompts.text
        answer = await embeddings(client, input=TEXTS)
        tokens = sum(len(text(one)) for one in TEXTS)
        assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
        assert answer["model"] == "tale"
        assert [item["index"] for item in answer["data"]] == list(range(len(TEXTS)))

    @pytest.mark.slow
    async def test_a_stream_goes_on_meanwhile(self, client):
        reply = await client.send(
            messages=[{"role": "user", "content": "x"}],
            stream=True,
            ignore_eos=True,
            max_tokens=120,
        )
        assert await anext(reply.body)
        assert len(await vectors(client, ["word " * 60] * 4)) == 4
        assert len([piece async for piece in reply.body]) > 20


@pytest.fixture(scope="module")
def runtime(model_dir):
    loaded = model.load(str(model_dir), max_batch=2)
    yield loaded
    loaded.close()


class TestPieces:
    """On the thread that has loaded the model, as the engine's does."""

    @pytest.mark.parametrize("pooling", ["mean", "last", "cls"])
    @pytest.mark.parametrize("step", [3, 32])
    def test_a_text_in_pieces_gives_what_it_gives_whole(self, runtime, pooling, step):
        prompts = [[5 + at % 90 for at in range(size)] for size in (1, 3, 7, 8, 32, 33, 40)]
        told = []
        whole, _ = drained(
            embed(runtime._model, prompts, pooling, step=10**6, make_room=told.append)
        )
        assert told == []
        cut, yields = drained(
            embed(runtime._model, prompts, pooling, step=step, make_room=told.append)
        )
        assert yields + 1 >= sum(map(len, prompts)) // step
        for one, other in zip(whole, cut, strict=True):
            assert one == pytest.approx(other, abs=1e-5)

    def test_no_piece_is_longer_than_a_step(self, runtime, monkeypatch):
        seen = []
        states = embedding._states
        monkeypatch.setattr(
            embedding, "_states", lambda *of: seen.append(of[1].size) or states(*of)
        )
        prompts = [[5] * size for size in (20, 1, 300, 64, 20, 20, 20, 2)]
        drained(embed(runtime._model, prompts, "mean", step=64, make_room=lambda _: None))
        assert max(seen) == 64
        assert len(seen) <= 9

    @pytest.mark.slow
    def test_between_two_pieces_others_get_their_next_token(self, runtime):
        spec = SequenceSpec(
            prompt=[1, 2, 3], max_tokens=60, sampling=Sampling(temperature=0), ignore_eos=True
        )

        def tokens(uid, steps):
            got = [token.token for _ in range(steps) for token in runtime.step()]
            runtime.remove([uid])
            return got

        undisturbed = tokens(runtime.insert(spec, print), 30)
        uid = runtime.insert(spec, print)
        pieces, got, vectors = 0, [], runtime.embed([[5] * 400, [6] * 10])
        while (made := next(vectors, "made")) != "made":
            assert made is None
            pieces += 1
            got += [token.token for token in runtime.step()]
        runtime.remove([uid])
        assert pieces >= 400 // prefill_step()
        assert len(got) >= pieces - 2  # the first steps read the prompt
        assert got[:20] == undisturbed[: len(got[:20])]

    @pytest.mark.slow
    def test_memory_is_that_of_a_piece_and_of_one_cache(self, runtime):
        long = [[5 + at % 90 for at in range(800)]]

        def peak(step):
            mx.clear_cache()
            mx.reset_peak_memory()
            before = mx.get_active_memory()
            drained(embed(runtime._model, long, "mean", step=step, make_room=told.append))
            return mx.get_peak_memory() - before

        told = []
        in_pieces = peak(64)
        assert in_pieces < 3 * max(told) + (8 << 20)
        assert in_pieces < peak(800) / 3

    @pytest.mark.slow
    def test_states_of_earlier_prompts_make_room_for_a_long_text(self, model_dir):
        small = model.load(str(model_dir), max_batch=2, prompt_cache=1 << 20)
        try:
            spec = SequenceSpec(prompt=[7] * 500, max_tokens=1, sampling=Sampling(temperature=0))
            small.insert(spec, print)
            while not small.step():
                pass
            assert small._states.counts.nbytes > 0
            drained(small.embed([[5] * 500]))
            assert small._states.counts.nbytes == 0
        finally:
            small.close()


class TestSizes:
    async def test_a_model_that_was_not_trained_for_it_is_not_cut(self, client):
        (whole,) = await vectors(client, "Hello")
        assert await vectors(client, "Hello", dimensions=len(whole)) == [whole]
        error = await refused(client, input="Hello", dimensions=64)
        assert (error.status, error.param) == (400, "dimensions")

    async def test_one_that_was_is_cut(self, model_dir, tmp_path, open_client):
        path = copied(model_dir, tmp_path / "model", matryoshka_dimensions=[64, 32])
        async with open_client(model=str(path)) as client:
            (whole,), (cut,) = [
                await vectors(client, "Hello", dimensions=size) for size in (None, 64)
            ]
            assert cosine(cut, whole[:64]) == pytest.approx(1)
            assert math.hypot(*cut) == pytest.approx(1)
            assert "64, 32" in (await refused(client, input="Hello", dimensions=48)).message


class TestRefusals:
    async def test_a_text_longer_than_the_context_says_both_numbers(
        self, model_dir, tmp_path, open_client
    ):
        path = copied(model_dir, tmp_path / "narrow", max_position_embeddings=64)
        async with open_client(model=str(path)) as client:
            assert len(await vectors(client, [5] * 64)) == 1
            error = await refused(client, input=["Hello", [5] * 65][1:])
            assert (error.status, error.code) == (400, "context_length_exceeded")
            assert "64" in error.message
            assert "65" in error.message

    @pytest.mark.parametrize("given", ["", ["a", ""], [2048], [-1], []])
    async def test_nothing_and_what_is_no_token(self, client, given):
        error = await refused(client, input=given)
        assert (error.status, error.param) == (400, "input")
        assert await vectors(client, "Hello")

    async def test_half_a_character(self, client):
        assert (await refused(client, input="\ud800")).status == 400


async def test_they_are_those_of_llama_server(client, start_llama_server):
    """The same weights, another engine: the vectors point the same way.

    It is asked for one text at a time: with `--parallel`, it pools several ones together wrongly.
    """
    server = start_llama_server("--embeddings", "--pooling", "mean")
    ours = await embeddings(client, input=TEXTS)
    tokens = 0
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
        for text, item in zip(TEXTS, ours["data"], strict=True):
            answer = (await http.post("/v1/embeddings", json={"input": text})).json()
            assert cosine(answer["data"][0]["embedding"], item["embedding"]) > 0.9999
            tokens += answer["usage"]["prompt_tokens"]
    assert ours["usage"]["prompt_tokens"] == tokens

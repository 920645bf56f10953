import asyncio
import json

import jsonschema
import pytest

from backends.base import BackendError, Endpoint, Request, RequestRefused, Stage
from backends.inprocess.backend import ADDRESS
from backends.options import LlamaCppOptions
from tests.backends.mlx.conftest import user
from tests.backends.mlx.test_backend import QUESTIONS, _read_into, until

LONG = {"messages": user("x"), "ignore_eos": True, "max_tokens": 4000}
WARM = {"temperature": 2, "max_tokens": 40, "ignore_eos": True}


def busy(client):
    load = client.backend.load(ADDRESS)
    return load.running, load.waiting


async def refused(client, **body):
    with pytest.raises(RequestRefused) as caught:
        await client.send(**body)
    assert busy(client) == (0, 0)
    return caught.value


class TestSeeds:
    async def test_a_seed_gives_the_same_alone_and_in_a_batch(self, client):
        alone = await client.text(QUESTIONS[0], seed=7, **WARM)
        batch = await asyncio.gather(
            client.text(QUESTIONS[1], temperature=0),
            client.text(QUESTIONS[0], seed=7, **WARM),
            client.text(QUESTIONS[0], seed=8, **WARM),
            client.text(QUESTIONS[4], **WARM),
        )
        assert batch[1] == alone != batch[2]

    async def test_without_a_seed_answers_differ(self, client):
        texts = [await client.text(QUESTIONS[0], **WARM) for _ in range(3)]
        assert len(set(texts)) > 1

    @pytest.mark.parametrize("seed", [-1, 0, 2**32 - 1, 2**63])
    async def test_any_seed_will_do(self, client, seed):
        texts = [await client.text("Hello!", seed=seed, **WARM) for _ in range(2)]
        assert texts[0] == texts[1]


class TestBatch:
    async def test_more_than_the_batch_holds_wait(self, open_client):
        async with open_client(max_batch=2) as client:
            alone = await client.text(QUESTIONS[0], temperature=0)
            texts = await asyncio.gather(
                *(client.text(QUESTIONS[0], temperature=0) for _ in range(7))
            )
        assert set(texts) == {alone}

    async def test_a_long_prompt_does_not_hold_up_the_others(self, client):
        stream = await client.send(
            messages=user("Hi"), stream=True, ignore_eos=True, max_tokens=2000
        )
        reading = asyncio.create_task(client.ask(prompt=[5] * 3000, max_tokens=1))
        pieces = 0
        while not reading.done():
            assert await anext(stream.body)
            pieces += 1
        await stream.body.aclose()
        assert pieces > 10, "others go on while a prompt is read"

    async def test_a_whole_context_is_there_for_every_sequence_at_once(self, open_client):
        async with open_client(max_batch=3, context=300) as client:
            body = {"max_tokens": 100, "ignore_eos": True}
            answers = await asyncio.gather(
                *(client.ask(prompt=[5 + n] * 200, **body) for n in range(6))
            )
        assert {answer["usage"]["completion_tokens"] for answer in answers} == {100}


class TestPromptCache:
    async def test_the_next_turn_pays_for_what_is_new(self, client):
        messages = user("Count from 1 to 30.")
        answer = await client.ask(messages=messages, temperature=0)
        messages += [answer["choices"][0]["message"], *user("What is 3 + 4?")]
        fresh, cached = None, None
        for salt in ("new", None):
            answer = await client.ask(messages=messages, temperature=0, cache_salt=salt)
            details = answer["usage"].get("prompt_tokens_details") or {"cached_tokens": 0}
            if salt:
                fresh = answer, details["cached_tokens"]
            else:
                cached = answer, details["cached_tokens"]
        assert fresh[1] == 0
        assert cached[1] > 70
        texts = [answer["choices"][0]["message"]["content"] for answer, _ in (fresh, cached)]
        assert texts[0] == texts[1]

    async def test_answers_are_the_same_with_what_was_kept(self, open_client):
        async with open_client(max_batch=2) as client:
            for question in QUESTIONS[:4]:
                first = await client.text(question, temperature=0)
                again = [client.text(question, temperature=0) for _ in range(3)]
                assert set(await asyncio.gather(*again)) == {first}


class TestCancel:
    async def test_closing_a_stream_shrinks_the_batch(self, client):
        replies = [await client.send(**LONG, stream=True) for _ in range(3)]
        assert client.backend.load(ADDRESS).running == 3
        await replies[1].body.aclose()
        await until(lambda: busy(client) == (2, 0))
        assert await anext(replies[0].body)
        for reply in replies:
            await reply.body.aclose()
        await until(lambda: busy(client) == (0, 0))

    async def test_leaving_while_a_prompt_is_read(self, client):
        asking = asyncio.create_task(client.send(prompt=[5] * 4000, max_tokens=9))
        await until(lambda: client.backend.load(ADDRESS).running > 0)
        asking.cancel()
        await asyncio.wait([asking])
        await until(lambda: busy(client) == (0, 0))
        assert await client.text("What is 3 + 4?", temperature=0) == "3 + 4 = 7."

    async def test_a_stream_cut_by_stop_has_no_end_mark(self, client):
        reply = await client.send(**LONG, stream=True)
        await client.backend.stop()
        pieces = []
        with pytest.raises(BackendError) as caught:
            await _read_into(pieces, reply)
        assert caught.value.stage is Stage.STREAMING
        assert b"[DONE]" not in b"".join(pieces)


class TestRefusals:
    async def test_a_prompt_longer_than_the_context_says_both_numbers(self, open_client):
        async with open_client(context=64) as narrow:
            error = await refused(narrow, prompt=[5] * 64)
            assert (error.status, error.param) == (400, "prompt")
            assert error.code == "context_length_exceeded"
            assert "holds 64 tokens" in error.message
            assert "has 64" in error.message

    @pytest.mark.parametrize("prompt", ["", ["a", ""], [2048], [-1]])
    async def test_a_prompt_without_tokens_or_with_unknown_ones(self, client, prompt):
        assert (await refused(client, prompt=prompt)).param == "prompt"

    async def test_half_a_character(self, client):
        assert (await refused(client, messages=user("\ud800"))).status == 400

    async def test_a_schema_that_cannot_be_compiled(self, client):
        schema = {"type": "string", "pattern": "(?=never)"}
        wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        error = await refused(client, messages=user("x"), response_format=wanted)
        assert error.param == "response_format.json_schema.schema"

    async def test_a_model_without_a_template_completes_texts(self, patched, open_client):
        bare = patched(b"tokenizer.chat_template", b"tokenizer.chat_templ8te")
        async with open_client(model=str(bare)) as client:
            error = await refused(client, messages=user("x"))
            assert "no chat template; use /v1/completions" in error.message
            answer = await client.ask(prompt="Once upon", max_tokens=5, temperature=0)
            assert answer["choices"][0]["text"] == " a time, there was"


class TestSchemas:
    async def test_answers_keep_to_a_schema_at_any_temperature(self, client):
        schema = {
            "type": "object",
            "properties": {
                "name": {"type": "string", "maxLength": 12},
                "age": {"type": "integer", "minimum": 0, "maximum": 120},
                "tags": {"type": "array", "items": {"enum": ["a\\b", "c\n"]}, "maxItems": 2},
            },
            "required": ["name", "age", "tags"],
            "additionalProperties": False,
        }
        wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        body = {"messages": user("Tom, 7, as JSON."), "response_format": wanted, "temperature": 1.5}
        free = client.text("Tell me a story about Tom.", temperature=0)
        *answers, story = await asyncio.gather(
            *(client.ask(**body, seed=seed, ignore_eos=True) for seed in range(8)), free
        )
        for answer in answers:
            (choice,) = answer["choices"]
            assert choice["finish_reason"] == "stop"
            jsonschema.validate(json.loads(choice["message"]["content"]), schema)
        assert story == await client.text("Tell me a story about Tom.", temperature=0)

    async def test_a_grammar_goes_with_penalties_bias_and_logprobs(self, client):
        answer = await client.ask(
            messages=user("Tom, 7, as JSON."), response_format={"type": "json_object"}, seed=1,
            temperature=0.7, top_k=40, top_p=0.9, min_p=0.01, presence_penalty=0.5,
            frequency_penalty=0.5, repetition_penalty=1.2, logit_bias={"7": 100, "8": -100},
            logprobs=True, top_logprobs=3, max_tokens=200,
        )  # fmt: skip
        (choice,) = answer["choices"]
        assert choice["message"]["content"].startswith("{")
        assert all(len(one["top_logprobs"]) == 3 for one in choice["logprobs"]["content"])


class TestEmbeddings:
    async def test_they_are_made_while_others_generate(self, client):
        stream = await client.send(**LONG, stream=True)
        request = Request(endpoint=Endpoint.EMBEDDINGS, body=b'{"input": ["one", "two"]}')
        reply = await asyncio.wait_for(client.backend.send(ADDRESS, request), 30)
        data = json.loads(b"".join([piece async for piece in reply.body]))["data"]
        assert [len(one["embedding"]) for one in data] == [128, 128]
        assert await anext(stream.body)
        await stream.body.aclose()


class TestLife:
    async def test_before_start_and_after_stop_it_is_not_ready(self, llama_cpp):
        backend = LlamaCppOptions(model=str(llama_cpp), threads=1).open("tale")
        request = Request(endpoint=Endpoint.COMPLETIONS, body=b'{"prompt": "a"}')
        assert not (await backend.probe(ADDRESS)).ready
        await backend.start()
        assert (await backend.probe(ADDRESS)).ready
        await backend.stop()
        assert not (await backend.probe(ADDRESS)).ready
        with pytest.raises(BackendError):
            await backend.send(ADDRESS, request)

    async def test_a_start_that_fails_says_why_and_can_be_stopped(self, llama_cpp, tmp_path):
        backend = LlamaCppOptions(model=str(tmp_path / "no.gguf")).open("tale")
        with pytest.raises(BackendError, match="there is no file"):
            await backend.start()
        await backend.stop()

    async def test_a_step_that_fails_takes_only_its_batch_along(self, client, monkeypatch):
        runtime = client.backend._runtime
        decode = runtime._library.llama_decode
        failing = [True]

        class Broken:
            def __getattr__(self, name):
                return getattr(library, name)

            def llama_decode(self, context, batch):
                return -3 if failing.pop() else decode(context, batch)

        library = runtime._library
        monkeypatch.setattr(runtime, "_library", Broken())
        failing[:] = [False] * 1000 + [True]
        with pytest.raises(BackendError, match="llama_decode failed with status -3"):
            await client.send(messages=user("Hello!"))
        await until(lambda: busy(client) == (0, 0))
        assert await client.text("What is 3 + 4?", temperature=0) == "3 + 4 = 7."

    async def test_two_engines_in_one_process(self, client, open_client):
        async with open_client(max_batch=1) as other:
            one, two = await asyncio.gather(
                client.text(QUESTIONS[0], temperature=0), other.text(QUESTIONS[0], temperature=0)
            )
        assert one == two

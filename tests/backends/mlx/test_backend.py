import asyncio
import json
import shutil

import pytest

from backends.base import BackendError, Endpoint, Request, RequestRefused, Stage
from backends.inprocess.backend import ADDRESS
from backends.options import MlxOptions
from tests.support.until import until

QUESTIONS = [
    "Tell me a story about Mia.",
    "What is the capital of Spain?",
    "What is 3 + 4?",
    "Count from 1 to 30.",
    "Tell me a long story about Tom.",
    "Give me a JSON object with name and age for Tom, 7.",
    "What can you do?",
    "Hello!",
]
LONG = {"messages": [{"role": "user", "content": "x"}], "ignore_eos": True, "max_tokens": 4000}
WARM = {"temperature": 2, "max_tokens": 40, "ignore_eos": True}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Tells the weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


def user(text):
    return [{"role": "user", "content": text}]


def busy(client):
    load = client.backend.load(ADDRESS)
    return load.running, load.waiting


def counts(answer):
    """The usage, apart from how much of the prompt had been computed before."""
    usage = dict(answer["usage"])
    details = usage.pop("prompt_tokens_details")
    assert 0 <= details["cached_tokens"] < usage["prompt_tokens"]
    return usage


@pytest.fixture
async def narrow(model_dir, tmp_path, open_client):
    """The same model with a context of 64 tokens."""
    copy = shutil.copytree(model_dir, tmp_path / "narrow", ignore=shutil.ignore_patterns("*.gguf"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 64}))
    async with open_client(model=str(copy)) as client:
        yield client


async def refused(client, **body):
    with pytest.raises(RequestRefused) as caught:
        await client.send(**body)
    assert busy(client) == (0, 0)
    return caught.value


def content(events):
    return "".join(
        choice["delta"].get("content") or "" for event in events for choice in event["choices"]
    )


async def _read_into(pieces, reply):
    while True:
        pieces.append(await anext(reply.body))


class TestAnswers:
    async def test_it_knows_what_it_was_trained_for(self, client):
        assert "Madrid" in await client.text("What is the capital of Spain?", temperature=0)

    @pytest.mark.slow
    async def test_eight_together_say_what_each_says_alone(self, client):
        alone = [await client.text(q, temperature=0, max_tokens=80) for q in QUESTIONS]
        together = await asyncio.gather(
            *(client.text(q, temperature=0, max_tokens=80) for q in QUESTIONS)
        )
        assert together == alone
        assert len(set(alone)) == len(alone)

    @pytest.mark.slow
    async def test_a_stream_says_the_same(self, client):
        body = {"messages": user(QUESTIONS[0]), "temperature": 0, "max_tokens": 60}
        whole = await client.ask(**body)
        events = await client.events(**body, stream_options={"include_usage": True})
        *chunks, usage = events
        assert content(chunks) == whole["choices"][0]["message"]["content"]
        assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"
        assert (usage["choices"], counts(usage)) == ([], counts(whole))
        assert {event["id"] for event in events} == {events[0]["id"]}

    async def test_without_asking_there_is_no_usage_in_a_stream(self, client):
        events = await client.events(messages=user("Hello!"), max_tokens=3)
        assert all("usage" not in event for event in events)

    async def test_usage_counts_what_was_read_and_written(self, client):
        prompt = client.backend._runtime.prompts.text("Once upon a time")
        answer = await client.ask(prompt="Once upon a time", max_tokens=7, ignore_eos=True)
        assert answer["usage"] == {
            "prompt_tokens": len(prompt),
            "completion_tokens": 7,
            "total_tokens": len(prompt) + 7,
            "prompt_tokens_details": {"cached_tokens": 0},
        }
        assert answer["choices"][0]["finish_reason"] == "length"

    async def test_the_end_token_ends_it(self, client):
        answer = await client.ask(messages=user("What is 3 + 4?"), temperature=0)
        assert answer["choices"][0]["finish_reason"] == "stop"

    async def test_more_tokens_than_the_context_has_are_cut_there(self, narrow):
        answer = await narrow.ask(prompt=[5] * 60, max_tokens=100, ignore_eos=True)
        assert answer["usage"]["total_tokens"] == 64
        assert answer["choices"][0]["finish_reason"] == "length"

    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_stop_string_is_found_in_the_text(self, client, stream):
        body = {"messages": user("Count from 1 to 30."), "temperature": 0}
        text = await client.text("Count from 1 to 30.", temperature=0)
        stop = text[9:14]
        ask = {**body, "stop": [stop, "never"]}
        if stream:
            events = await client.events(**ask)
            said, reason = content(events), events[-1]["choices"][0]["finish_reason"]
        else:
            (choice,) = (await client.ask(**ask))["choices"]
            said, reason = choice["message"]["content"], choice["finish_reason"]
        assert (said, reason) == (text[: text.index(stop)], "stop")

    async def test_prompts_and_choices_are_numbered(self, client):
        answer = await client.ask(
            prompt=["Once upon", "There was"], n=2, seed=1, max_tokens=12, ignore_eos=True
        )
        assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
        assert answer["usage"]["completion_tokens"] == 48
        assert len({choice["text"] for choice in answer["choices"]}) > 1

    async def test_choices_of_a_stream(self, client):
        events = await client.events(messages=user("Hello!"), n=3, max_tokens=4, ignore_eos=True)
        ends = [c["index"] for e in events for c in e["choices"] if c["finish_reason"]]
        assert sorted(ends) == [0, 1, 2]

    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_tool_call(self, client, stream):
        body = {"messages": user("What is the weather in Paris?"), "tools": TOOLS, "temperature": 0}
        if stream:
            events = await client.events(**body)
            first, *more = [
                call
                for event in events
                for call in event["choices"][0]["delta"].get("tool_calls", ())
            ]
            assert {call["index"] for call in (first, *more)} == {0}
            for call in more:
                first["function"]["arguments"] += call["function"]["arguments"]
            calls = [first]
            reason = events[-1]["choices"][0]["finish_reason"]
            assert content(events) == ""
        else:
            (choice,) = (await client.ask(**body))["choices"]
            calls, reason = choice["message"]["tool_calls"], choice["finish_reason"]
            assert choice["message"]["content"] is None
        (call,) = calls
        assert call["function"]["name"] == "get_weather"
        assert "city" in json.loads(call["function"]["arguments"])
        assert reason == "tool_calls"

    async def test_with_tool_choice_none_the_same_prompt_gives_no_call(self, client):
        body = {"messages": user("What is the weather in Paris?"), "tools": TOOLS, "temperature": 0}
        called = await client.ask(**body)
        said = await client.ask(**body, tool_choice="none")
        assert counts(said)["prompt_tokens"] == counts(called)["prompt_tokens"]
        assert said["choices"][0]["finish_reason"] == "stop"
        assert "tool_calls" not in said["choices"][0]["message"]

    async def test_a_chats_tokens_are_counted(self, client):
        async def counted(text):
            body = json.dumps({"messages": user(text)}).encode()
            request = Request(endpoint=Endpoint.COUNT_TOKENS, body=body)
            reply = await client.backend.send(ADDRESS, request)
            return json.loads(await anext(aiter(reply.body)))["input_tokens"]

        said = await client.ask(messages=user("Count from 1 to 5."), max_tokens=1)
        assert await counted("Count from 1 to 5.") == said["usage"]["prompt_tokens"]
        assert await counted("one, two, three, " * 2000) > 4096, "more than the context holds"

    async def test_tokens_of_a_text_are_counted(self, client):
        text = "Once upon a time, there was"
        said = await client.ask(messages=user("Hi"), max_tokens=1)
        longer = await client.ask(messages=user("Hi" + text), max_tokens=1)
        counted = await client.backend.count_text(ADDRESS, text)
        assert counted == counts(longer)["prompt_tokens"] - counts(said)["prompt_tokens"]

    async def test_a_message_can_be_continued(self, client):
        messages = [*user("Count from 1 to 30."), {"role": "assistant", "content": "1, 2, 3,"}]
        answer = await client.ask(
            messages=messages, continue_final_message=True, temperature=0, max_tokens=4
        )
        assert answer["choices"][0]["message"]["content"].startswith(" 4, 5")


class TestSeeds:
    @pytest.mark.slow
    async def test_a_seed_gives_the_same_alone_and_in_a_batch(self, client):
        alone = await client.text(QUESTIONS[0], seed=7, **WARM)
        batch = await asyncio.gather(
            client.text(QUESTIONS[1], temperature=0),
            client.text(QUESTIONS[0], seed=7, **WARM),
            client.text(QUESTIONS[0], seed=8, **WARM),
            client.text(QUESTIONS[4], **WARM),
        )
        assert batch[1] == alone != batch[2]

    @pytest.mark.slow
    async def test_without_a_seed_answers_differ(self, client):
        texts = [await client.text(QUESTIONS[0], **WARM) for _ in range(3)]
        assert len(set(texts)) > 1


class TestStreams:
    @pytest.mark.slow
    async def test_two_streams_interleave(self, client):
        body = {"messages": user(QUESTIONS[0]), "stream": True, "ignore_eos": True}
        one, other = [await client.send(**body, max_tokens=200) for _ in range(2)]
        assert busy(client) == (2, 0)
        turns = 0
        async for _ in one.body:
            turns += bool(await anext(other.body, b""))
        assert turns > 20

    async def test_it_begins_before_it_ends(self, client):
        reply = await client.send(messages=user("x"), stream=True, ignore_eos=True, max_tokens=3000)
        assert client.backend.load(ADDRESS).running == 1
        first = await anext(reply.body)
        assert b'"role":"assistant"' in first
        assert b'"content":"' in first
        await reply.body.aclose()

    async def test_a_stream_cut_by_stop_raises_and_has_no_end_mark(self, client):
        reply = await client.send(messages=user("x"), stream=True, ignore_eos=True, max_tokens=3000)
        pieces = [await anext(reply.body)]
        await client.backend.stop()
        with pytest.raises(BackendError) as caught:
            await _read_into(pieces, reply)
        assert caught.value.stage is Stage.STREAMING
        assert b"[DONE]" not in b"".join(pieces)


class TestCancel:
    async def test_closing_a_stream_shrinks_the_batch(self, client):
        replies = [await client.send(**LONG, stream=True) for _ in range(3)]
        assert client.backend.load(ADDRESS).running == 3
        await replies[1].body.aclose()
        await replies[1].body.aclose()
        await until(lambda: busy(client) == (2, 0))
        assert await anext(replies[0].body)
        for reply in replies:
            await reply.body.aclose()
        await until(lambda: busy(client) == (0, 0))

    async def test_closing_ends_a_read_in_another_task(self, client):
        reply = await client.send(**LONG, stream=True)

        begun = asyncio.Event()

        async def read():
            async for _ in reply.body:
                begun.set()

        reading = asyncio.create_task(read())
        await asyncio.wait_for(begun.wait(), 10)
        await reply.body.aclose()
        await asyncio.wait_for(reading, 5)

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(
        "body", [{"prompt": [5] * 4000}, {"prompt": "Once", "n": 3}], ids=["prefill", "decode"]
    )
    async def test_cancelling_a_request_shrinks_the_batch(self, client, stream, body):
        asking = asyncio.create_task(
            client.send(**body, max_tokens=90, ignore_eos=True, stream=stream)
        )
        await until(lambda: client.backend.load(ADDRESS).running > 0)
        asking.cancel()
        await asyncio.wait([asking])
        if asking.cancelled():
            await until(lambda: busy(client) == (0, 0))
        else:
            await (await asking).body.aclose()
            await until(lambda: busy(client) == (0, 0))

    async def test_cancelling_one_that_waits_empties_the_queue(self, open_client):
        async with open_client(max_batch=1, max_waiting=1) as client:
            running = await client.send(**LONG, stream=True)
            asking = asyncio.create_task(client.send(**LONG))
            await until(lambda: busy(client) == (1, 1))
            asking.cancel()
            await asyncio.wait([asking])
            assert asking.cancelled()
            assert busy(client) == (1, 0)
            await running.body.aclose()

    async def test_a_full_engine_refuses(self, open_client):
        async with open_client(max_batch=1, max_waiting=0) as client:
            running = await client.send(**LONG, stream=True)
            with pytest.raises(RequestRefused) as caught:
                await client.send(**LONG)
            assert (caught.value.status, caught.value.code) == (429, "engine_overloaded")
            await running.body.aclose()
            await until(lambda: busy(client) == (0, 0))
            assert await client.text("Hello!")


class TestRefusals:
    async def test_a_prompt_longer_than_the_context_says_both_numbers(self, narrow):
        error = await refused(narrow, prompt=[5] * 64)
        assert (error.status, error.param) == (400, "prompt")
        assert error.code == "context_length_exceeded"
        assert "holds 64 tokens" in error.message
        assert "has 64" in error.message
        assert (await refused(narrow, messages=user("x" * 40_000))).param == "messages"

    @pytest.mark.parametrize("prompt", ["", ["a", ""], [2048], [-1]])
    async def test_a_prompt_without_tokens_or_with_unknown_ones(self, client, prompt):
        assert (await refused(client, prompt=prompt)).param == "prompt"

    async def test_half_a_character(self, client):
        assert (await refused(client, messages=user("\ud800"))).status == 400

    async def test_more_answers_than_there_are_places(self, open_client):
        async with open_client(max_batch=2, max_waiting=1) as client:
            error = await refused(client, prompt=["a", "b"], n=2)
            assert (error.status, error.param) == (400, "n")

    async def test_a_bias_beyond_the_vocabulary(self, client):
        assert (await refused(client, prompt="a", logit_bias={"2048": 1})).param == "logit_bias"

    async def test_another_endpoint(self, client):
        request = Request(endpoint=Endpoint.RERANK, body=b"{}")
        with pytest.raises(RequestRefused) as caught:
            await client.backend.send(ADDRESS, request)
        assert caught.value.status == 501


class TestLife:
    async def test_before_start_and_after_stop_it_is_not_ready(self, model_dir):
        backend = MlxOptions(model=str(model_dir)).open("tale")
        request = Request(endpoint=Endpoint.COMPLETIONS, body=b'{"prompt": "a"}')
        assert not (await backend.probe(ADDRESS)).ready
        with pytest.raises(BackendError) as caught:
            await backend.send(ADDRESS, request)
        assert caught.value.stage is Stage.CONNECT
        await backend.start()
        assert (await backend.probe(ADDRESS)).ready
        await backend.stop()
        assert not (await backend.probe(ADDRESS)).ready
        with pytest.raises(BackendError):
            await backend.send(ADDRESS, request)

    async def test_a_start_that_fails_says_why_and_can_be_stopped(self, tmp_path):
        backend = MlxOptions(model=str(tmp_path)).open("tale")
        with pytest.raises(BackendError, match="no MLX model"):
            await backend.start()
        assert "no MLX model" in (await backend.probe(ADDRESS)).reason
        await backend.stop()

    @pytest.mark.slow
    async def test_two_engines_in_one_process(self, client, open_client):
        async with open_client(max_batch=1) as other:
            one, two = await asyncio.gather(
                client.text(QUESTIONS[0], temperature=0), other.text(QUESTIONS[0], temperature=0)
            )
        assert one == two

"""What the adapter for llama-server makes of a real one."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from backends.base import BackendError, Endpoint, Request, Stage
from backends.options import LlamaServerOptions, OpenAIOptions


@pytest.fixture
def llama(start_llama_server):
    return start_llama_server("--parallel", "2", "--ctx-size", "8192", "--context-shift")


def opened(url):
    return LlamaServerOptions(replicas=(url,)).open("llama")


def story(**fields):
    messages = [{"role": "user", "content": "Tell me a story about Tom."}]
    body = {"model": "any-name", "messages": messages, "temperature": 0, **fields}
    return Request(
        endpoint=Endpoint.CHAT,
        body=json.dumps(body).encode(),
        stream=bool(fields.get("stream")),
        headers=((b"x-conversation-id", b"c1"),),
    )


async def busy_slots(backend, address):
    _, body = await backend.get(address, "/slots")
    return sum(slot["is_processing"] for slot in json.loads(body))


async def test_it_answers_stops_when_left_and_comes_back(llama):
    backend = opened(llama.url)
    reply = await backend.send(llama.url, story(max_tokens=16))
    whole = json.loads(b"".join([piece async for piece in reply.body]))
    assert reply.status == 200
    assert whole["choices"][0]["message"]["content"]

    unable = await backend.send(llama.url, Request(endpoint=Endpoint.EMBEDDINGS, body=b"{}"))
    await unable.body.aclose()
    assert unable.status == 501

    # With its context shifting it would write for ever; closing the reply stops it.
    endless = story(stream=True, max_tokens=10**9, ignore_eos=True)
    reply = await backend.send(llama.url, endless)
    await anext(aiter(reply.body))
    assert await busy_slots(backend, llama.url) == 1
    await reply.body.aclose()
    async with asyncio.timeout(5):
        while await busy_slots(backend, llama.url):
            await asyncio.sleep(0.01)

    reply = await backend.send(llama.url, endless)
    await anext(aiter(reply.body))
    llama.kill()
    with pytest.raises(BackendError) as caught:
        async for _ in reply.body:
            pass
    assert caught.value.stage is Stage.STREAMING
    await reply.body.aclose()
    assert "refused" in (await backend.probe(llama.url)).reason

    llama.restart()  # the next request is as the first
    assert (await backend.probe(llama.url)).ready
    reply = await backend.send(llama.url, story(max_tokens=4))
    await reply.body.aclose()
    assert reply.status == 200
    await backend.stop()


def question(text, **fields):
    return {"messages": [{"role": "user", "content": text}], "temperature": 0, "seed": 1, **fields}


CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "get_weather", "description": "Get the weather in a city."}
IN_PARIS = "What is the weather in Paris?"
SPAIN = question("What is the capital of Spain?", max_tokens=12, cache_prompt=False)
SCHEMA = {"name": "city", "schema": {**CITY, "additionalProperties": False}}
TOOL = {"type": "function", "function": {**WEATHER, "parameters": CITY}}
SAME = {
    "chat": (Endpoint.CHAT, SPAIN),
    "cut off": (Endpoint.CHAT, {**SPAIN, "max_tokens": 2}),
    "silent": (Endpoint.CHAT, {**SPAIN, "logit_bias": [], "stop": ["The"]}),
    "two choices": (Endpoint.CHAT, {**SPAIN, "n": 2}),
    "log probabilities": (
        Endpoint.CHAT,
        {**SPAIN, "max_tokens": 3, "logprobs": True, "top_logprobs": 2},
    ),
    "timings": (Endpoint.CHAT, {**SPAIN, "timings_per_token": True, "return_progress": True}),
    "tool": (
        Endpoint.CHAT,
        question(IN_PARIS, tools=[TOOL], tool_choice="required", max_tokens=60),
    ),
    "schema": (
        Endpoint.CHAT,
        {
            **SPAIN,
            "max_tokens": 40,
            "response_format": {"type": "json_schema", "json_schema": SCHEMA},
        },
    ),
    "completion": (Endpoint.COMPLETIONS, {"prompt": "Once upon", "max_tokens": 5, "seed": 1}),
    "two completions": (
        Endpoint.COMPLETIONS,
        {"prompt": "Once upon", "max_tokens": 3, "temperature": 0, "n": 2, "logprobs": 2},
    ),
    "two prompts": (
        Endpoint.COMPLETIONS,
        {"prompt": ["Once upon", "The capital of"], "max_tokens": 3, "temperature": 0},
    ),
    "responses": (
        Endpoint.RESPONSES,
        {"input": "What is 3 + 4?", "temperature": 0, "max_output_tokens": 20},
    ),
    "responses tool": (
        Endpoint.RESPONSES,
        {
            "input": IN_PARIS,
            "temperature": 0,
            "max_output_tokens": 60,
            "tools": [{"type": "function", **WEATHER, "parameters": CITY}],
            "tool_choice": "required",
        },
    ),
    "messages": (Endpoint.MESSAGES, question("What is 3 + 4?", max_tokens=20)),
    "messages stop": (
        Endpoint.MESSAGES,
        question("What is 3 + 4?", max_tokens=20, stop_sequences=["="]),
    ),
    "messages tool": (
        Endpoint.MESSAGES,
        question(
            IN_PARIS,
            max_tokens=60,
            tools=[{"name": "get_weather", "input_schema": CITY}],
            tool_choice={"type": "any"},
        ),
    ),
    "refused": (Endpoint.CHAT, {**SPAIN, "n": 99}),
    "too long": (Endpoint.CHAT, question("a b c d " * 3000)),
}
COUNTED_ONCE = {"two choices", "two completions", "two prompts"}
"""Two answers of the same length, of which the engine itself counts only the first."""
VARY = {"id", "call_id", "created", "created_at", "completed_at", "timings"}
CACHED = {"cached_tokens", "cache_read_input_tokens", "input_tokens"}


def comparable(value, name=""):
    """`value` without what differs from one answer to the next anyway."""
    if name in VARY | CACHED:
        return sorted(value) if isinstance(value, dict) else type(value).__name__
    match value:
        case dict():
            return {key: comparable(below, key) for key, below in value.items()}
        case list():
            return [comparable(below) for below in value]
        case float():
            return round(value, 2)
    return value


async def whole(backend, address, endpoint, body):
    request = Request(endpoint=endpoint, body=json.dumps(body).encode())
    reply = await backend.send(address, request)
    try:
        return [reply.status, json.loads(b"".join([piece async for piece in reply.body]))]
    finally:
        await reply.body.aclose()


async def test_an_assembled_answer_is_the_engines_own(llama):
    address = llama.url
    backend = opened(address)
    direct = OpenAIOptions(replicas=(address,)).open("direct")
    for name, (endpoint, body) in SAME.items():
        expected = await whole(direct, address, endpoint, body)
        got = await whole(backend, address, endpoint, body)
        if name in COUNTED_ONCE:
            counted, once = got[1]["usage"], expected[1]["usage"]
            assert counted["completion_tokens"] == 2 * once["completion_tokens"]
            expected[1]["usage"] = counted
        assert (name, comparable(got)) == (name, comparable(expected))
    await backend.stop()
    await direct.stop()


async def within(seconds, condition):
    """Milliseconds until `condition` holds."""
    started = time.monotonic()
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.002)
    return (time.monotonic() - started) * 1000


async def test_leaving_frees_one_that_is_busy(llama):
    address = llama.url
    backend = opened(address)
    endless = {"max_tokens": 10**9, "ignore_eos": True}

    async def are_busy(slots):
        return await busy_slots(backend, address) == slots

    async def waiting():
        _, body = await backend.get(address, "/metrics")
        return b"llamacpp:requests_deferred 1" in body

    other = await backend.send(address, story(stream=True, **endless))
    reading = asyncio.create_task(drain(other))
    await within(5, lambda: are_busy(1))

    leaving = asyncio.create_task(
        whole(backend, address, Endpoint.CHAT, question("Hello", **endless))
    )
    await within(5, lambda: are_busy(2))
    await asyncio.sleep(0.1)
    leaving.cancel()
    took = await within(1, lambda: are_busy(1))
    print(f"a slot that was generating was free after {took:.0f} ms")

    # Both slots taken: the next one waits in the engine's queue, and never gets to write.
    second = await backend.send(address, story(stream=True, **endless))
    also_reading = asyncio.create_task(drain(second))
    leaving = asyncio.create_task(
        whole(backend, address, Endpoint.CHAT, question("Hello", **endless))
    )
    await within(5, waiting)
    leaving.cancel()
    also_reading.cancel()
    took = await within(1, lambda: are_busy(1))
    print(f"with one that had left the queue, a slot was free after {took:.0f} ms")
    assert not await waiting()
    assert not reading.done()
    reading.cancel()
    await within(1, lambda: are_busy(0))
    await backend.stop()


async def drain(reply):
    try:
        async for _ in reply.body:
            pass
    finally:
        await reply.body.aclose()

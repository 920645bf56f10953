from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backends.base import BackendError, Cause, Endpoint, Request, RequestRefused, Stage
from backends.options import LlamaServerOptions, OpenAIOptions

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / "models" / "tiny-tale" / "tiny-tale-f32.gguf"


def answer(status, body=b"{}"):
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)


def opened(url):
    return LlamaServerOptions(replicas=(url,)).open("llama")


@pytest.mark.parametrize(
    ("answers", "ready", "reason"),
    [
        ([answer(503, b'{"error":{"message":"Loading model"}}')], False, "loading the model"),
        ([answer(404)], False, "/health answers HTTP 404"),
        ([answer(200), answer(401)], False, "misconfigured: the engine wants an api_key"),
        ([answer(200), answer(200)], True, ""),
    ],
)
async def test_readiness(start_peer, step, answers, ready, reason):
    script = [part for data in answers for part in (step.READ, data)]
    async with start_peer([*script, step.HANG]) as peer:
        backend = opened(peer.url + "/v1")
        readiness = await backend.probe(backend.addresses[0])
        await backend.stop()
    assert readiness.ready is ready
    assert readiness.reason.startswith(reason)
    assert peer.requests[0].startswith(b"GET /health HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("said", "tokens"),
    [
        (answer(200, b'{"tokens":[1,2,3]}'), 3),
        (answer(404), None),
        (answer(200, b"{"), None),
        (answer(200, b"{}"), None),
        (b"", None),
    ],
)
async def test_tokens_of_a_text_are_counted_where_it_says_them(start_peer, step, said, tokens):
    async with start_peer([step.READ, said]) as peer:
        backend = opened(peer.url)
        assert await backend.count_text(backend.addresses[0], "Once upon a") == tokens
        await backend.stop()
    assert peer.requests[0].startswith(b"POST /tokenize HTTP/1.1\r\n")


async def test_a_client_cannot_detach_its_stream_from_its_connection(start_peer, step):
    async with start_peer([step.READ, answer(200), step.HANG]) as peer:
        backend = opened(peer.url)
        headers = ((b"x-conversation-id", b"c1"), (b"x-request-id", b"r1"))
        request = Request(endpoint=Endpoint.CHAT, body=b"{}", headers=headers)
        reply = await backend.send(peer.url, request)
        await reply.body.aclose()
        await backend.stop()
    assert b"x-conversation-id" not in peer.requests[0]
    assert b"x-request-id: r1" in peer.requests[0]


# -- one answer from a stream --------------------------------------------------------------------


def events(*data, end=b"data: [DONE]\n\n", kind=b"text/event-stream"):
    body = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in data) + end
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ntransfer-encoding: chunked\r\n\r\n"
        b"%x\r\n%s\r\n" % (kind, len(body), body)
    )


def said(content, finish=None):
    return {
        "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}],
        "object": "chat.completion.chunk",
        "prompt_progress": {"total": 1},
    }


LAST_CHUNK = b"0\r\n\r\n"


async def ask(peer, body=b"{}", endpoint=Endpoint.CHAT):
    backend = opened(peer.url)
    try:
        reply = await backend.send(peer.url, Request(endpoint=endpoint, body=body))
        try:
            return reply, b"".join([piece async for piece in reply.body])
        finally:
            await reply.body.aclose()
    finally:
        await backend.stop()


async def test_it_is_asked_for_a_stream_and_gives_one_answer(start_peer, step):
    script = [step.READ, events(said("Hel"), said("lo", "stop")) + LAST_CHUNK, step.HANG]
    async with start_peer(script) as peer:
        reply, body = await ask(peer, b'{"stream":false,"x": 1.00,"n":1}')
    assert reply.status == 200
    assert dict(reply.headers)[b"content-type"] == b"application/json"
    choice = {"index": 0, "finish_reason": "stop"}
    message = {"role": "assistant", "content": "Hello"}
    assert json.loads(body) == {
        "choices": [{**choice, "message": message}],
        "object": "chat.completion",
    }
    sent = peer.requests[0].partition(b"\r\n\r\n")[2]
    assert sent == (
        b'{"stream":true,"x":1.00,"n":1,"return_progress":true,'
        b'"stream_options":{"include_usage":true}}'
    )


async def test_a_stream_is_known_whatever_else_its_content_type_says(start_peer, step):
    stream = events(said("Hello", "stop"), kind=b"text/event-stream; charset=utf-8")
    async with start_peer([step.READ, stream + LAST_CHUNK, step.HANG]) as peer:
        _, body = await ask(peer)
    assert json.loads(body)["choices"][0]["message"]["content"] == "Hello"


@pytest.mark.parametrize("endpoint", [Endpoint.EMBEDDINGS, Endpoint.COUNT_TOKENS, Endpoint.RERANK])
async def test_other_endpoints_are_asked_as_the_client_asks(start_peer, step, endpoint):
    async with start_peer([step.READ, answer(200), step.HANG]) as peer:
        _, body = await ask(peer, b'{"x": 1}', endpoint)
    assert body == b"{}"
    assert peer.requests[0].endswith(b'\r\n\r\n{"x": 1}')


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"n":"two"}', b"\xff", b'{"x":' + b"[" * 9999])
async def test_the_engine_says_what_is_wrong_with_a_body(start_peer, step, body):
    async with start_peer([step.READ, answer(400, b"no"), step.HANG]) as peer:
        reply, told = await ask(peer, body)
    assert (reply.status, told) == (400, b"no")
    assert peer.requests[0].endswith(b"\r\n\r\n" + body)


@pytest.mark.parametrize("status", [200, 400, 503])
async def test_what_is_no_stream_is_passed_on(start_peer, step, status):
    async with start_peer([step.READ, answer(status, b'{"error":1}'), step.HANG]) as peer:
        reply, told = await ask(peer)
    assert (reply.status, told) == (status, b'{"error":1}')


CUT_OFF = [said("Hel"), said("lo")]


@pytest.mark.parametrize(
    ("stream", "cause", "reason"),
    [
        (events(*CUT_OFF) + LAST_CHUNK, Cause.PROTOCOL, "without a finish reason"),
        (events(*CUT_OFF, end=b"") + LAST_CHUNK, Cause.PROTOCOL, "without a finish reason"),
        (events(said("x"), end=b'data: {"cho') + LAST_CHUNK, Cause.PROTOCOL, "malformed"),
        (events(end=b'data: {"x":' + b"[" * 9999) + LAST_CHUNK, Cause.PROTOCOL, "malformed"),
        (events(*CUT_OFF), Cause.RESET, "127.0.0.1"),
        (events({"error": {"message": "boom", "code": 500}}), Cause.ENGINE, "boom"),
        (events({"error": {"message": "busy", "code": 429}}), Cause.ENGINE, "busy"),
    ],
)
async def test_a_stream_that_breaks_off_is_no_answer(start_peer, step, stream, cause, reason):
    async with start_peer([step.READ, stream, step.CLOSE]) as peer:
        with pytest.raises(BackendError, match=reason) as caught:
            await ask(peer)
    assert (caught.value.stage, caught.value.cause) == (Stage.STREAMING, cause)


async def test_an_error_that_is_the_clients_own_stays_so(start_peer, step):
    error = {"message": "too long", "code": 400, "type": "exceed_context_size_error"}
    async with start_peer([step.READ, events({"error": error}), step.HANG]) as peer:
        with pytest.raises(RequestRefused, match="too long") as caught:
            await ask(peer)
    assert (caught.value.status, caught.value.code) == (400, "context_length_exceeded")


async def test_closing_an_answer_that_is_not_there_yet_closes_the_connection(start_peer, step):
    async with start_peer([step.READ, events(said("x"), end=b""), step.HANG]) as peer:
        backend = opened(peer.url)
        reply = await backend.send(peer.url, Request(endpoint=Endpoint.CHAT, body=b"{}"))
        waiting = asyncio.ensure_future(anext(aiter(reply.body)))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        waiting.cancel()
        await reply.body.aclose()
        await asyncio.wait_for(peer.hung_up.wait(), 5)
        with pytest.raises(StopAsyncIteration):
            await anext(aiter(reply.body))
        await backend.stop()


# -- the real engine -----------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def llama_server(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    found = subprocess.run(
        [sys.executable, "-m", "tools.engines", "path", "llama-server"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    if found.returncode or not MODEL.exists():
        pytest.skip("llama-server or its model is missing: `make engines`")
    process = await asyncio.create_subprocess_exec(
        found.stdout.strip(), "-m", str(MODEL), "--host", "127.0.0.1", "--port", str(port),
        "-np", "2", "-c", "8192", "-t", "1", "--slots", "--context-shift", "--log-disable",
        "--threads-http", "16", "--jinja", "--metrics", "--offline", "--no-ui",
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


async def until_ready(backend, address):
    async with asyncio.timeout(60):
        while not (readiness := await backend.probe(address)).ready:
            await asyncio.sleep(0.05)
    return readiness


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


@pytest.mark.engine
async def test_a_real_llama_server():
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    backend = opened(address)
    assert "refused" in (await backend.probe(address)).reason
    async with llama_server(port) as process:
        await until_ready(backend, address)
        reply = await backend.send(address, story(max_tokens=16))
        whole = json.loads(b"".join([piece async for piece in reply.body]))
        assert reply.status == 200
        assert whole["choices"][0]["message"]["content"]

        unable = await backend.send(address, Request(endpoint=Endpoint.EMBEDDINGS, body=b"{}"))
        await unable.body.aclose()
        assert unable.status == 501

        # With its context shifting it would write for ever; closing the reply stops it.
        endless = story(stream=True, max_tokens=10**9, ignore_eos=True)
        reply = await backend.send(address, endless)
        await anext(aiter(reply.body))
        assert await busy_slots(backend, address) == 1
        await reply.body.aclose()
        async with asyncio.timeout(5):
            while await busy_slots(backend, address):
                await asyncio.sleep(0.01)

        reply = await backend.send(address, endless)
        await anext(aiter(reply.body))
        process.kill()
        with pytest.raises(BackendError) as caught:
            async for _ in reply.body:
                pass
        assert caught.value.stage is Stage.STREAMING
        await reply.body.aclose()
    async with llama_server(port):  # restarted: the next request is as the first
        await until_ready(backend, address)
        reply = await backend.send(address, story(max_tokens=4))
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


@pytest.mark.engine
async def test_an_assembled_answer_is_the_engines_own():
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    backend = opened(address)
    direct = OpenAIOptions(replicas=(address,)).open("direct")
    async with llama_server(port):
        await until_ready(backend, address)
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


@pytest.mark.engine
async def test_leaving_frees_a_real_llama_server_that_is_busy():
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    backend = opened(address)
    endless = {"max_tokens": 10**9, "ignore_eos": True}

    async def are_busy(slots):
        return await busy_slots(backend, address) == slots

    async def waiting():
        _, body = await backend.get(address, "/metrics")
        return b"llamacpp:requests_deferred 1" in body

    async with llama_server(port):
        await until_ready(backend, address)
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

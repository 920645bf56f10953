from __future__ import annotations

import asyncio
import json

import pytest

from backends.base import BackendError, Cause, Endpoint, Request, RequestRefused, Stage
from backends.options import LlamaServerOptions


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

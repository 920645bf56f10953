from __future__ import annotations

import json
import re

import pytest

from backends.base import BackendError, Cause, Reply, RequestRefused
from backends.llama_server.mistakes import unless_refused


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("image input is not supported - hint: you may need to provide the mmproj", "messages"),
        ("audio input is not supported", "messages"),
        ("Failed to parse tools: Missing tool type", "tools"),
        ("[json.exception.out_of_range.406] number overflow parsing '1e999'", None),
    ],
)
async def test_a_mistake_of_the_client_is_no_failure_of_the_server(stream_of, message, param):
    body = json.dumps({"error": {"code": 500, "message": message, "type": "server_error"}}).encode()
    pieces = stream_of(body[:20], body[20:])
    with pytest.raises(RequestRefused, match="^" + re.escape(message)) as refused:
        await unless_refused(Reply(500, (), pieces))
    assert (refused.value.status, refused.value.param) == (400, param)
    assert pieces.closed


@pytest.mark.parametrize(
    "pieces",
    [
        [b'{"error": {"message": "out of memory"}}'],
        [b"oh", b" no"],
        [b'"' + b"x" * 70_000, b"x" * 30_000 + b'"'],
        [b'{"x":' + b"[" * 60_000],
        [],
    ],
)
async def test_a_failure_of_the_server_is_told_as_it_is(stream_of, pieces):
    reply = await unless_refused(Reply(500, (), stream_of(*pieces)))
    assert reply.status == 500
    assert b"".join([piece async for piece in reply.body]) == b"".join(pieces)


async def test_while_it_loads_it_says_so(stream_of):
    body = b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'
    pieces = stream_of(body)
    with pytest.raises(BackendError, match="loading the model") as told:
        await unless_refused(Reply(503, (), pieces))
    assert told.value.cause is Cause.LOADING
    assert pieces.closed


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"Loading model","type":"server_error","code":503}}',
        b'{"error":{"message":"no slot","type":"unavailable_error","code":503}}',
        b"Loading model",
    ],
)
async def test_any_other_503_is_told_as_it_is(stream_of, body):
    reply = await unless_refused(Reply(503, (), stream_of(body)))
    assert b"".join([piece async for piece in reply.body]) == body


async def test_other_answers_are_not_read(stream_of):
    reply = Reply(200, (), stream_of(b"x"))
    assert await unless_refused(reply) is reply

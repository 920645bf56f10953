from __future__ import annotations

import json

import pytest

from backends.assemble import assembler_for
from backends.base import BackendError, Cause, Endpoint, Reply, Request
from backends.llama_server.whole_answer import in_one_piece
from backends.sse import MAX_EVENT

HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-y", b"z"),
)


async def made(pieces, endpoint=Endpoint.RESPONSES, on_progress=None):
    request = Request(endpoint=endpoint, body=b"{}", on_progress=on_progress)
    reply = in_one_piece("http://h", request, Reply(200, HEADERS, pieces), assembler_for(endpoint))
    return reply, b"".join([piece async for piece in reply.body])


def completed(response):
    event = {"type": "response.completed", "response": response}
    return f"data: {json.dumps(event)}\n\n".encode()


@pytest.mark.parametrize("output", [5, ["x"], None, [{"type": "message"}]])
async def test_what_is_odd_in_an_answer_stays_so(stream_of, output):
    whole = {"output": output, "status": "completed", "created_at": 1}
    reply, body = await made(stream_of(completed(whole)))
    if output == [{"type": "message"}]:
        whole["output"] = [{"type": "message", "status": "completed"}]
    assert json.loads(body) == {**whole, "completed_at": 1}
    assert reply.headers == [(b"x-y", b"z"), (b"content-type", b"application/json")]


async def test_a_last_event_without_its_blank_line_counts(stream_of):
    _, body = await made(stream_of(completed({"x": 1})[:-2]))
    assert json.loads(body)["x"] == 1


async def test_an_event_without_end_is_an_error(stream_of):
    with pytest.raises(BackendError, match="http://h: an event is longer than 16 MiB") as caught:
        await made(stream_of(b"data: ", b"x" * MAX_EVENT))
    assert caught.value.cause is Cause.PROTOCOL


async def test_its_events_are_told_as_they_come(stream_of):
    told = []
    event = completed({})
    await made(stream_of(event[:5], event[5:] + b":\n\n"), on_progress=told.append)
    assert told == [event + b":\n\n"]

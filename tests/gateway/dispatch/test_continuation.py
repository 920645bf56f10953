from __future__ import annotations

import json

import pytest

from backends.base import BackendError, Endpoint, Reply
from gateway.dispatch.as_chat import as_chat
from gateway.dispatch.continuation import completed, continuation_for
from gateway.dispatch.failover_rules import CannotGoOnError
from gateway.wire.resume.continuation import Said
from tests.support.upstream import DONE, FINISH, ROLE, text

SAID = Said("Once upon", 2)
STREAM = [(b"content-type", b"text/event-stream")]


class Engine:
    provider = "mlx"


class Asked:
    def __init__(self, endpoint, **body):
        self.endpoint = endpoint
        self.body = json.dumps({"model": "m", **body}).encode()

    def as_chat(self):
        return as_chat(self.endpoint, self.body, frozenset())


class Body:
    def __init__(self, *pieces):
        self._pieces = list(pieces)
        self.closed = False

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop(0)

    async def aclose(self):
        self.closed = True


def continuation(endpoint=Endpoint.CHAT, **body):
    body = body or {"messages": [{"role": "user", "content": "Hi"}]}
    return continuation_for(Asked(endpoint, **body), Engine(), SAID)


def test_a_chat_is_asked_as_one():
    made = continuation()
    assert (made.endpoint, made.translation) == (Endpoint.CHAT, None)
    assert json.loads(made.body)["messages"][-1]["content"] == "Once upon"


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (Endpoint.RESPONSES, {"input": "Hi"}),
        (Endpoint.MESSAGES, {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9}),
    ],
)
def test_another_dialect_is_asked_in_a_chat(endpoint, body):
    made = continuation(endpoint, **body)
    assert made.endpoint is Endpoint.CHAT
    assert made.translation is not None
    assert json.loads(made.body)["messages"][-1] == {"role": "assistant", "content": "Once upon"}


def test_what_no_chat_can_say_stays_broken():
    with pytest.raises(CannotGoOnError, match="as a chat"):
        continuation(Endpoint.RESPONSES, input="Hi", previous_response_id="x")


def test_what_has_no_room_left_stays_broken():
    with pytest.raises(CannotGoOnError, match="limit"):
        continuation(messages=[{"role": "user", "content": "Hi"}], max_tokens=2)


async def test_the_reply_becomes_that_of_a_whole_answer():
    body = Body(ROLE, text(" a time"), FINISH, DONE[:5], DONE[5:])
    reply = completed(Reply(200, STREAM, body), continuation())
    pieces = [piece async for piece in reply.body]
    assert b"".join(pieces).count(b'"Once upon"') == 1
    assert pieces[-1] == DONE
    await reply.body.aclose()
    assert body.closed


async def test_what_is_no_stream_stays_as_it_is():
    for reply in (Reply(400, STREAM, Body()), Reply(200, [], Body())):
        assert completed(reply, continuation()) is reply


async def test_an_event_without_an_end_is_an_error():
    reply = completed(Reply(200, STREAM, Body(b"data: " + b"x" * (17 << 20))), continuation())
    with pytest.raises(BackendError, match="longer than"):
        await anext(reply.body)

import asyncio
import json

import msgspec
import pytest

from backends.base import Endpoint, Request
from backends.isolation.server import EngineServer, Health

pytestmark = pytest.mark.slow
LONG = {"messages": [{"role": "user", "content": "x"}], "ignore_eos": True, "max_tokens": 4000}


def request(endpoint=Endpoint.CHAT, **body):
    return Request(
        endpoint=endpoint, body=json.dumps(body).encode(), stream=bool(body.get("stream"))
    )


async def read(reply):
    return b"".join([piece async for piece in reply.body])


async def health(child):
    _, body = await child.get("/health")
    return msgspec.json.decode(body, type=Health)


async def until_idle(child):
    for _ in range(500):
        load = (await health(child)).load
        if (load.running, load.waiting) == (0, 0):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it still works")


async def test_whole_answers_streams_and_what_becomes_of_them(child):
    ask = {"messages": [{"role": "user", "content": "What is 3 + 4?"}], "temperature": 0}
    whole = json.loads(await read(await child.send(request(**ask))))
    assert "7" in whole["choices"][0]["message"]["content"]
    streamed = await read(await child.send(request(**ask, stream=True)))
    assert streamed.endswith(b"data: [DONE]\n\n")
    assert (await health(child)).readiness.ready


async def test_a_client_that_leaves_stops_the_engine(child):
    reply = await child.send(request(**LONG, stream=True))
    await anext(reply.body)
    assert (await health(child)).load.running == 1
    await reply.body.aclose()
    await until_idle(child)


async def test_a_client_that_leaves_before_the_answer_stops_the_engine(child):
    waiting = asyncio.create_task(child.send(request(**LONG)))
    async with asyncio.timeout(30):
        while not (await health(child)).load.running:
            await asyncio.sleep(0.01)
    waiting.cancel()
    await until_idle(child)


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b'{"messages":[]}', 400, "messages"),
        (b"rubbish", 400, None),
        (b'{"messages":[{"role":"user","content":"x"}],"max_tokens":0}', 400, "max_tokens"),
    ],
)
async def test_refusals_keep_their_status_and_field(child, body, status, param):
    reply = await child.send(Request(endpoint=Endpoint.CHAT, body=body))
    error = json.loads(await read(reply))["error"]
    assert (reply.status, error["param"]) == (status, param)


async def test_paths_that_are_none(child):
    assert (await child.get("/v1/models"))[0] == 404
    reply = await child.send(request(Endpoint.RERANK, query="x", documents=[]))
    assert reply.status == 501


@pytest.mark.parametrize("body", [b"", b"{}", b'[{"name":"a"}]', b"[[]]", b"\xff"])
async def test_adapters_that_are_none(child, body):
    status, answer = await child.backend.post(child.address, "/adapters/load", body)
    assert status == 400
    assert json.loads(answer)["refused"] is True


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff"])
async def test_a_text_that_is_none_is_not_counted(child, body):
    status, answer = await child.backend.post(child.address, "/count", body)
    assert status == 400
    assert json.loads(answer)["refused"] is True


class Waiting:
    """A backend whose answer never comes, and which says when it was left."""

    addresses = ("here",)

    def __init__(self):
        self.asked, self.left = asyncio.Event(), False

    async def send(self, address, request):
        self.asked.set()
        try:
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0)
            self.left = True


SCOPE = {"path": "/v1/chat/completions", "headers": []}


async def ask(server, pieces):
    """What the server sends for a body of these pieces, after which the client stays."""
    sent = []
    messages = [{"type": "http.request", "body": one, "more_body": True} for one in pieces]
    messages.append({"type": "http.request"})

    async def receive():
        return messages.pop(0) if messages else await asyncio.sleep(600)

    async def send(message):
        sent.append(message)

    await server(SCOPE, receive, send)
    return sent


async def test_a_body_that_is_too_large_is_refused_and_not_cut(monkeypatch):
    monkeypatch.setattr("backends.isolation.server._MAX_BODY", 10)
    start, body = await ask(EngineServer(Waiting()), [b"x" * 6, b"x" * 6])
    assert start["status"] == 413
    assert "more than 10 bytes" in json.loads(body["body"])["error"]["message"]


async def test_cancelled_from_outside_it_leaves_nothing_running():
    backend = Waiting()
    serving = asyncio.create_task(ask(EngineServer(backend), [b"{}"]))
    await backend.asked.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert backend.left

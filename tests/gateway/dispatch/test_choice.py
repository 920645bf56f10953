"""Which replica of several is asked, through a gateway on sockets."""

from __future__ import annotations

import contextlib
from random import Random
from types import SimpleNamespace

import pytest

from gateway.dispatch.choice import choose
from tests.support.chats import TOLD
from tests.support.dialects import LACKS
from tests.support.engines import sample
from tests.support.inprocess import serving
from tests.support.upstream import (
    ENGINE_MODEL,
    Silence,
    completion,
    failing,
    reply,
    scripted,
    stream,
)

DOCUMENT = "In the beginning there was a text that many ask about. " * 100
"""About 5 KB: what is worth staying for."""


@contextlib.asynccontextmanager
async def fleet(tmp_path, *scripts, weights=(), without=(), **model):
    """A gateway with one model, `tale`, on an engine for each of `scripts`."""
    async with contextlib.AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(scripted(script)) for script in scripts]
        replicas = [
            {"url": engine.url, "weight": weight}
            for engine, weight in zip(engines, weights or [1] * len(engines), strict=True)
        ]
        backend = {"use": "openai", "replicas": replicas, "model": ENGINE_MODEL}
        backend["without"] = list(without)
        document = {
            "backends": {"plain": backend},
            "models": {"tale": {"backend": "plain", **model}},
            "telemetry": {"access_log": False},
        }
        gateway = await stack.enter_async_context(serving(tmp_path, document))
        yield gateway, engines


def asked(engines):
    return [len(engine.seen) for engine in engines]


def chat(*turns, **fields):
    roles = ("user", "assistant")
    said = [{"role": roles[at % 2], "content": text} for at, text in enumerate(turns)]
    return {"model": "tale", "messages": said, "stream": True, **fields}


async def post(gateway, path, body, **headers):
    answer = await gateway.client.post(f"/v1/{path}", json=body, headers=headers)
    assert answer.status_code == 200, answer.text


ENDS = ("Is it?", "Why?", "Where?")
BODIES = {
    "chat/completions": [
        chat(*[DOCUMENT, "Yes.", "And?", "No.", "Why?"][:turns], stream=False)
        for turns in (1, 3, 5)
    ],
    "completions": [{"prompt": DOCUMENT + end} for end in ENDS],
    "responses": [{"instructions": DOCUMENT, "input": end} for end in ENDS],
    "messages": [{**chat(end, stream=False), "max_tokens": 8, "system": DOCUMENT} for end in ENDS],
}


@pytest.mark.parametrize("path", BODIES)
async def test_what_begins_alike_goes_to_the_same_replica(tmp_path, path):
    answer = {"choices": [{"text": "x"}]} if path == "completions" else completion()
    async with fleet(tmp_path, *[reply(answer)] * 4, without=LACKS) as (gateway, engines):
        for body in BODIES[path]:
            await post(gateway, path, {"model": "tale", **body})
        assert sorted(asked(engines)) == [0, 0, 0, 3]
        told = (await gateway.client.get("/metrics")).text
    assert sample(told, "gateway_replica_known_prompt_tokens_total") > 2000


async def test_documents_are_spread(tmp_path):
    async with fleet(tmp_path, *[stream(*TOLD)] * 3) as (gateway, engines):
        for number in range(30):
            await post(gateway, "chat/completions", chat(f"{number}" + DOCUMENT))
        assert min(asked(engines)) >= 3


async def test_a_session_stays_by_its_header(tmp_path):
    sticky = {"balance": "session", "sticky": "header:x-session-id"}
    async with fleet(tmp_path, *[stream(*TOLD)] * 3, **sticky) as (gateway, engines):
        for number in range(6):
            await post(gateway, "chat/completions", chat(f"{number}"), **{"x-session-id": "me"})
        assert sorted(asked(engines)) == [0, 0, 6]
        for number in range(30):
            await post(gateway, "chat/completions", chat("Hi"), **{"x-session-id": f"{number}"})
        assert min(asked(engines)) > 0


async def test_weights_in_the_file_are_kept(tmp_path):
    model = {"balance": "round_robin"}
    async with fleet(tmp_path, *[stream(*TOLD)] * 2, weights=[3, 1], **model) as (gateway, engines):
        for _ in range(8):
            await post(gateway, "chat/completions", chat("Hi"))
        assert asked(engines) == [6, 2]


@pytest.mark.parametrize("balance", ["prefix_affinity", "session", "p2c_ewma"])
async def test_where_the_right_one_fails_another_one_answers(tmp_path, balance):
    model = {"balance": balance}
    async with fleet(tmp_path, failing(503), stream(*TOLD), **model) as (gateway, engines):
        for number in range(12):
            await post(gateway, "chat/completions", chat(f"{number}" + DOCUMENT))
        assert asked(engines)[0] >= 1
        assert asked(engines)[1] == 12


async def test_whatever_becomes_of_requests_no_load_is_left(tmp_path):
    timeouts = {"timeouts": {"first_token": "50ms"}, "retry": {"attempts": 2, "backoff": "1ms"}}
    scripts = (stream(*TOLD), failing(503), (Silence(),))
    async with fleet(tmp_path, *scripts, **timeouts) as (gateway, engines):
        for number in range(6):
            await gateway.client.post("/v1/chat/completions", json=chat(f"{number}" + DOCUMENT))
        replicas = gateway.gateway._state.snapshot.replicas
        assert [one.outstanding for one in replicas] == [0, 0, 0]
        assert [one.pending_tokens for one in replicas] == [0, 0, 0]
        assert sum(asked(engines)) >= 6


class Unasked:
    wants_demand = False

    def pick(self, candidates, request, rng):
        raise AssertionError("nobody has to be picked")


def test_where_there_is_one_replica_no_policy_is_asked():
    variant = SimpleNamespace(replicas=("only",), policy=Unasked())
    ask = SimpleNamespace(body=b"x" * 400)
    chosen = choose(variant, ["only"], ask, session=Unasked, now=0.0, rng=Random(1))
    assert chosen == ("only", 100, 0)

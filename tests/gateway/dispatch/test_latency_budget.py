"""Latency budgets, through a gateway on sockets whose replicas have been slow, or have not."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.routing.moments import ENOUGH
from tests.support.inprocess import ask, routing, serving
from tests.support.upstream import (
    CHAT,
    DONE,
    ENGINE_MODEL,
    FINISH,
    ROLE,
    STORY,
    Hold,
    Pause,
    Silence,
    data,
    event,
    failing,
    scripted,
    stream,
    text,
)

GOOD = stream(*STORY)
LONG = "x" * 40_000
"""About ten thousand tokens."""


def teach(gateway, replica, *, prefill=1000.0, decode=50.0, ago=0.0):
    """Have a replica be known for its rates."""
    found = gateway.gateway._state.snapshot.replicas[replica].load.rates
    for tokens in range(100, 3000, 100):
        found.first_token(tokens, tokens / prefill, time.monotonic() - ago)
        found.decoded(100, 100 / decode)


async def post(gateway, text="Hello", *, streamed=True, **headers):
    body = {**ask(stream=streamed), "messages": [{"role": "user", "content": text}]}
    named = {f"x-gateway-{name}": said for name, said in headers.items()}
    return await gateway.client.post("/v1/chat/completions", json=body, headers=named)


async def test_what_would_be_late_is_refused_with_the_numbers(tmp_path):
    model = {"budget": {"ttft": "500ms", "total": "8s"}}
    async with scripted(GOOD) as engine, serving(tmp_path, routing(engine, model=model)) as it:
        teach(it, 0)
        refused, fine = await post(it, LONG), await post(it)
        assert len(engine.seen) == 1
    assert (refused.status_code, fine.status_code) == (429, 200)
    error = refused.json()["error"]
    assert error["code"] == "over_budget"
    assert "ttft 0.5 s" in error["message"]
    assert "10 s" in error["message"]  # of prefill
    assert "An idle engine would be late as well" in error["message"]
    assert "retry-after" not in refused.headers
    assert refused.headers["x-gateway-attempts"] == "0"


async def test_behind_others_only_it_is_told_when_to_come_back(tmp_path):
    model = {"budget": {"ttft": "12s"}}
    script = (Silence(),)
    async with scripted(script) as engine, serving(tmp_path, routing(engine, model=model)) as it:
        teach(it, 0)
        first = asyncio.create_task(post(it, LONG))
        while not engine.seen:
            await asyncio.sleep(0.001)
        refused = await post(it, LONG)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    assert refused.status_code == 429
    assert 5 < int(refused.headers["retry-after"]) < 12
    assert "idle" not in refused.json()["error"]["message"]


@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses", "messages"])
async def test_streams_teach_it_whose_clients_want_no_usage(tmp_path, path):
    script = spoken(path, 40)
    async with scripted(script) as engine, serving(tmp_path, budgeted(engine)) as gateway:
        for _ in range(ENOUGH):
            answer = await gateway.client.post(
                f"/v1/{path}",
                json={
                    "model": "tale",
                    "stream": True,
                    "prompt": "x",
                    "input": "x",
                    "max_tokens": 99,
                    "messages": [{"role": "user", "content": "x"}],
                },
            )
            assert answer.status_code == 200
        route = gateway.gateway._state.snapshot.table.find("tale")
        expected = gateway.gateway._attempts._budgets.expected(route)
        rates = gateway.gateway._state.snapshot.replicas[0].load.rates
        assert expected.output(None) == 40
        assert rates.decode is not None


def budgeted(engine):
    return routing(engine, model={"budget": {"total": "60s"}})


def spoken(path, count):
    """A stream of `count` words that tells no usage."""
    if path == "responses":
        word = event("response.output_text.delta", delta="x ")
        return stream(*[word] * count, event("response.completed", response={"id": "r"}))
    if path == "messages":
        start = event("message_start", message={"id": "m", "model": ENGINE_MODEL})
        word = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "x "})
        stop = event("message_delta", delta={"stop_reason": "end_turn"})
        return stream(start, *[word] * count, stop, event("message_stop"))
    if path == "completions":
        words = [data({"choices": [{"index": 0, "text": "x "}]})] * count
        end = data({"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})
        return stream(*words, end, DONE)
    return stream(ROLE, *[text("x ")] * count, FINISH, DONE)


async def test_who_is_too_slow_is_passed_over(tmp_path):
    model = {"budget": {"ttft": "500ms"}}
    async with (
        scripted(GOOD) as quick,
        scripted(GOOD) as slow,
        serving(tmp_path, routing(quick, slow, model=model)) as gateway,
    ):
        teach(gateway, 0, prefill=100_000)
        teach(gateway, 1, prefill=1000)
        answers = [await post(gateway, LONG) for _ in range(4)]
        assert (len(quick.seen), len(slow.seen)) == (4, 0)
    assert {answer.status_code for answer in answers} == {200}


def weighted(document, weight):
    """`document`, whose first replica gets that much of the traffic."""
    replicas = document["backends"]["engine"]["replicas"]
    replicas[0] = {"url": replicas[0], "weight": weight}
    return document


async def test_nor_is_a_slow_one_asked_beside_one_that_is_late(tmp_path):
    model = {"budget": {"ttft": "5s"}, "hedge": {"after": "50ms", "max_percent": 100}}
    async with (
        scripted(GOOD) as quick,
        scripted((Silence(),)) as late,
        scripted(GOOD) as slow,
        serving(tmp_path, weighted(routing(slow, quick, late, model=model), 10)) as gateway,
    ):
        teach(gateway, 0, prefill=1000)
        teach(gateway, 1, prefill=100_000)
        answer = await post(gateway, LONG)
        assert [len(one.seen) for one in (quick, late, slow)] == [1, 1, 0]
    assert answer.status_code == 200


async def test_what_is_not_known_keeps_nobody_out(tmp_path):
    model = {"budget": {"ttft": "1ms", "total": "1ms"}}
    async with scripted(GOOD) as engine, serving(tmp_path, routing(engine, model=model)) as it:
        assert (await post(it, LONG)).status_code == 200


async def test_one_bad_minute_is_not_believed_for_ever(tmp_path):
    model = {"budget": {"ttft": "500ms"}}
    async with scripted(GOOD) as engine, serving(tmp_path, routing(engine, model=model)) as it:
        teach(it, 0, prefill=1, ago=60.0)
        answers = [await post(it, LONG) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]


async def test_nor_where_others_keep_the_replica_busy(tmp_path):
    model = {"budget": {"ttft": "500ms"}}
    async with (
        scripted((Hold(), *GOOD)) as engine,
        serving(tmp_path, routing(engine, model=model)) as gateway,
    ):
        teach(gateway, 0, prefill=1, ago=60.0)
        gateway.gateway._state.snapshot.replicas[0].load.begin(time.monotonic(), 10)
        probing = asyncio.create_task(post(gateway, LONG))
        async with asyncio.timeout(5):
            while not engine.seen:
                await asyncio.sleep(0.005)
        refused = await post(gateway, LONG)
        engine.release()
        answers = [await probing, refused]
    assert [answer.status_code for answer in answers] == [200, 429]


async def test_of_an_answer_in_one_piece_only_the_whole_counts(tmp_path):
    async with scripted(CHAT) as engine:
        for budget, status in (({"ttft": "1ms"}, 200), ({"total": "1s"}, 200)):
            async with serving(tmp_path, routing(engine, model={"budget": budget})) as gateway:
                teach(gateway, 0)
                assert (await post(gateway, LONG, streamed=False)).status_code == status


async def test_it_learns_from_what_it_relays(tmp_path):
    model = {"budget": {"ttft": "30s"}}
    async with scripted(GOOD) as engine, serving(tmp_path, routing(engine, model=model)) as it:
        for _ in range(10):
            await post(it)
        (replica,) = it.gateway._state.snapshot.replicas
        assert replica.load.rates.forecast(0, 10, None).first_token is not None


@pytest.mark.slow
async def test_it_learns_from_answers_in_one_piece_too(tmp_path):
    model = {"budget": {"total": "20ms"}}
    async with (
        scripted((Pause(0.05), *CHAT)) as engine,
        serving(tmp_path, routing(engine, model=model)) as gateway,
    ):
        answers = [await post(gateway, streamed=False) for _ in range(ENOUGH + 1)]
    assert [answer.status_code for answer in answers] == [200] * ENOUGH + [429]
    assert "the whole would take about 0." in answers[-1].json()["error"]["message"]


async def test_a_refusal_goes_to_the_model_for_what_is_overloaded(tmp_path):
    async with scripted(GOOD) as slow, scripted(GOOD) as spare:
        document = {
            "backends": {
                "slow": {"use": "openai", "replicas": [slow.url], "model": ENGINE_MODEL},
                "spare": {"use": "openai", "replicas": [spare.url], "model": ENGINE_MODEL},
            },
            "models": {
                "tale": {
                    "backend": "slow",
                    "budget": {"ttft": "500ms"},
                    "fallback": {"overloaded": ["other"]},
                },
                "other": {"backend": "spare"},
            },
            "telemetry": {"access_log": False},
        }
        async with serving(tmp_path, document) as gateway:
            teach(gateway, 0)
            answer = await post(gateway, LONG)
        assert answer.headers["x-gateway-model"] == "other"
        assert slow.seen == []


async def test_late_is_better_than_never_once_another_model_has_failed(tmp_path):
    async with scripted(failing(503)) as down, scripted(GOOD) as slow:
        document = {
            "backends": {
                "down": {"use": "openai", "replicas": [down.url], "model": ENGINE_MODEL},
                "slow": {"use": "openai", "replicas": [slow.url], "model": ENGINE_MODEL},
            },
            "models": {
                "tale": {
                    "backend": "down",
                    "retry": {"attempts": 1},
                    "fallback": {"unavailable": ["other"]},
                },
                "other": {"backend": "slow", "budget": {"ttft": "500ms"}},
            },
            "telemetry": {"access_log": False},
        }
        async with serving(tmp_path, document) as gateway:
            teach(gateway, 1)
            answer = await post(gateway, LONG)
    assert answer.status_code == 200
    assert answer.headers["x-gateway-model"] == "other"


@pytest.mark.parametrize("within", ["500ms", "2s"])
async def test_a_clients_own_deadline_counts_where_answers_are_foreseen(tmp_path, within):
    model = {"budget": {"total": "60s"}}
    async with scripted(GOOD) as engine, serving(tmp_path, routing(engine, model=model)) as it:
        teach(it, 0, prefill=1_000_000, decode=10)
        route = it.gateway._state.snapshot.table.routes[0]
        for _ in range(20):
            it.gateway._attempts._budgets.expected(route).learn(10, 10, 10)
        answer = await post(it, timeout=within)
    assert answer.status_code == (429 if within == "500ms" else 200)
    assert ("x-gateway-timeout 0.5 s" in answer.text) is (within == "500ms")

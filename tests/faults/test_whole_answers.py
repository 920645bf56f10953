"""Answers in one piece: their engines are given up where they hang, and waited for where not."""

from __future__ import annotations

import asyncio
import json

import pytest

from backends.readiness import Readiness
from tests.support.inprocess import routing, serving
from tests.support.until import until
from tests.support.upstream import (
    CHAT,
    DONE,
    ENGINE_MODEL,
    FINISH,
    ROLE,
    STORY,
    Hold,
    Pause,
    Send,
    Silence,
    response,
    scripted,
    stream,
    text,
)

SHORT = {"first_token": "150ms", "idle": "150ms", "total": "10s"}


def llamas(*upstreams, timeouts):
    document = routing(*upstreams, model={"timeouts": timeouts})
    backend = {"use": "llama_server", "replicas": [one.url for one in upstreams]}
    return {**document, "backends": {"engine": {**backend, "model": ENGINE_MODEL}}}


async def test_one_that_begins_and_goes_silent(tmp_path):
    timeouts = {"first_token": "10s", "idle": "150ms", "total": "10s"}
    async with (
        scripted(stream(*STORY)) as good,
        scripted(stream(ROLE, text("Once"), Silence())) as bad,
        serving(tmp_path, llamas(good, bad, timeouts=timeouts)) as gateway,
    ):
        answer = await gateway.chat()
        await bad.seen[0].gone()
    assert answer.status_code == 200
    assert answer.headers["x-gateway-attempts"] == "2"
    assert (len(bad.seen), len(good.seen)) == (1, 1)


async def test_one_that_only_keeps_its_connection_alive(tmp_path):
    alive = [Pause(0.05), b":\n\n"] * 100
    async with (
        scripted(stream(*STORY)) as good,
        scripted(stream(*alive)) as bad,
        serving(tmp_path, llamas(good, bad, timeouts=SHORT)) as gateway,
    ):
        answer = await gateway.chat()
    assert answer.status_code == 200
    assert answer.headers["x-gateway-attempts"] == "2"


@pytest.mark.slow
async def test_one_that_takes_its_time_and_says_so(tmp_path):
    """Longer than its first token's time, and each event in time."""
    timeouts = {"first_token": "500ms", "idle": "500ms", "total": "10s"}
    slowly = [step for _ in range(10) for step in (Pause(0.07), text("."))]
    async with (
        scripted(stream(ROLE, *slowly, FINISH, DONE)) as slow,
        serving(tmp_path, llamas(slow, timeouts=timeouts)) as gateway,
    ):
        answer = await gateway.chat()
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "." * 10
    assert len(slow.seen) == 1


@pytest.mark.slow
async def test_one_that_works_on_its_prompt_longer_than_it_may_be_silent_later(tmp_path):
    """It has said who speaks, as some do before they read the prompt, and no word yet."""
    timeouts = {"first_token": "10s", "idle": "150ms", "total": "10s"}
    async with (
        scripted(stream(ROLE, Pause(0.4), text("Once"), FINISH, DONE)) as slow,
        serving(tmp_path, llamas(slow, timeouts=timeouts)) as gateway,
    ):
        answer = await gateway.chat()
    assert answer.status_code == 200
    assert len(slow.seen) == 1


@pytest.mark.slow
async def test_one_that_is_gone_by_its_health_checks(tmp_path):
    async with (
        scripted(CHAT) as good,
        scripted((Silence(),)) as bad,
        serving(tmp_path, routing(good, bad, model={"timeouts": SHORT})) as gateway,
    ):
        bad.probe = (Silence(),)
        asking = asyncio.create_task(gateway.chat())
        await asyncio.sleep(0.3)
        assert not asking.done(), "nobody has said that it is gone"
        (replica,) = (
            one
            for one in gateway.gateway._state.snapshot.replicas
            if one.address.startswith(bad.url)
        )
        replica.observe(Readiness(False, "no answer"))
        answer = await asking
        await bad.seen[0].gone()
        metrics = (await gateway.client.get("/metrics")).text
    assert answer.status_code == 200
    assert (len(bad.seen), len(good.seen)) == (1, 1)
    assert 'gateway_attempt_cause="idle_timeout"' in metrics


@pytest.mark.slow
async def test_one_that_is_there_may_take_its_time(tmp_path):
    async with (
        scripted((Hold(), *CHAT)) as slow,
        serving(tmp_path, routing(slow, model={"timeouts": SHORT})) as gateway,
    ):
        asking = asyncio.create_task(gateway.chat())
        await asyncio.sleep(0.5)
        slow.release()
        answer = await asking
    assert answer.status_code == 200
    assert len(slow.seen) == 1


@pytest.mark.parametrize("first", [True, False], ids=["model first", "model last"])
async def test_one_too_long_to_be_held_has_the_clients_name_for_the_model(tmp_path, first):
    told = json.dumps({"model": ENGINE_MODEL})[1:-1]
    long = f'"text":"{"x" * (9 << 20)}"'
    body = "{" + ",".join([told, long] if first else [long, told]) + "}"
    async with (
        scripted((Send(response(200, body.encode())),)) as engine,
        serving(tmp_path, routing(engine)) as gateway,
    ):
        answer = await gateway.chat()
        metrics = (await gateway.client.get("/metrics")).text
    assert answer.json() == {"model": "tale", "text": "x" * (9 << 20)}
    assert "content-length" not in answer.headers
    assert 'gateway_attempt_cause="ok"' in metrics


@pytest.mark.slow
@pytest.mark.parametrize("streamed", [True, False])
async def test_one_that_waits_for_its_turn_behind_a_long_one(tmp_path, streamed):
    """Its engine makes tokens, for somebody else, for longer than the first one may take."""
    timeouts = {"first_token": "300ms", "idle": "300ms", "total": "10s"}
    slowly = [step for _ in range(8) for step in (Pause(0.1), text("."))]
    async with (
        scripted(stream(ROLE, *slowly, FINISH, DONE), (Pause(0.9), *stream(*STORY))) as busy,
        serving(tmp_path, llamas(busy, timeouts=timeouts)) as gateway,
    ):
        before = asyncio.create_task(gateway.chat(stream=streamed))
        await until(lambda: len(busy.seen) == 1)
        answer = await gateway.chat()
        assert (await before).status_code == 200
    assert answer.status_code == 200
    assert len(busy.seen) == 2

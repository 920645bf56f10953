"""A client's own deadline, `x-gateway-timeout`, holds for all that is done for it."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.inprocess import ask, post, routing, serving
from tests.support.kinds import BOTH
from tests.support.upstream import (
    CHAT,
    STORY,
    Silence,
    failing,
    scripted,
    stream,
)


async def chat(gateway, within, streamed=False):
    headers = {"x-gateway-timeout": within}
    return await gateway.client.post(
        "/v1/chat/completions", json=ask(stream=streamed), headers=headers
    )


@pytest.mark.slow
@BOTH
async def test_it_ends_the_wait_frees_the_engine_and_is_told(tmp_path, streamed):
    async with (
        scripted(CHAT) as other,
        scripted((Silence(),)) as hung,
        serving(tmp_path, routing(other, hung)) as gateway,
    ):
        answers = [await chat(gateway, "200ms", streamed) for _ in range(8)]
        await hung.seen[0].gone()
        metrics = (await gateway.client.get("/metrics")).text
        ready = (await gateway.client.get("/ready")).status_code
    late = [answer for answer in answers if answer.status_code != 200]
    # It is not the engine's fault: round robin asks it each second time, and nobody ejects it.
    assert len(late) == 4
    assert {answer.status_code for answer in late} == {504}
    error = late[0].json()["error"]
    assert error["code"] == "deadline_exceeded"
    assert "0.2 s" in error["message"]
    assert "x-gateway-timeout" in error["message"]
    assert hung.seen[0].header("x-gateway-timeout") is None
    assert 'gateway_attempt_cause="deadline_exceeded"' in metrics
    assert ready == 200


async def test_no_retry_and_no_fallback_begins_that_could_not_end(tmp_path):
    model = {"retry": {"attempts": 5, "backoff": "200ms", "max_backoff": "1s"}}
    async with (
        scripted(failing(500)) as broken,
        serving(tmp_path, routing(broken, model=model)) as gateway,
    ):
        answer = await asyncio.wait_for(chat(gateway, "150ms"), 2)
    assert answer.status_code == 502
    assert len(broken.seen) == 1


async def test_an_answer_that_has_begun_ends_with_an_error_event(tmp_path):
    begun = stream(*STORY[:2], Silence())
    async with scripted(begun) as slow, serving(tmp_path, routing(slow)) as gateway:
        answer = await chat(gateway, "0.2", True)
        await slow.seen[0].gone()
    assert answer.status_code == 200
    assert "deadline_exceeded" in answer.text
    assert "[DONE]" not in answer.text


async def test_a_longer_one_than_the_routes_changes_nothing(tmp_path):
    model = {"timeouts": {"total": "100ms"}}
    async with (
        scripted((Silence(),)) as hung,
        serving(tmp_path, routing(hung, model=model)) as gateway,
    ):
        answer = await chat(gateway, "1h")
    assert answer.json()["error"]["code"] == "upstream_timeout"


@pytest.mark.slow
async def test_the_client_s_time_runs_while_its_body_comes(tmp_path):
    """Its 300 ms are more than the route's 200, and are over before those."""
    model = {"timeouts": {"total": "200ms"}}
    async with (
        scripted((Silence(),)) as hung,
        serving(tmp_path, routing(hung, model=model)) as gateway,
    ):
        raw = await gateway.connect()
        whole = post(b'{"model":"tale","messages":[1]}', b"x-gateway-timeout: 300ms")
        await raw.write(whole[:-1])
        await asyncio.sleep(0.2)
        await raw.write(whole[-1:])
        status, _, body = await raw.response()
    assert status == 504
    assert b"deadline_exceeded" in body


async def test_a_body_that_took_it_all_is_not_sent_on(tmp_path):
    async with scripted(CHAT) as engine, serving(tmp_path, routing(engine)) as gateway:
        raw = await gateway.connect()
        whole = post(b'{"model":"tale","messages":[1]}', b"x-gateway-timeout: 50ms")
        await raw.write(whole[:-1])
        await asyncio.sleep(0.1)
        await raw.write(whole[-1:])
        status, _, body = await raw.response()
    assert status == 504
    assert b"before an engine was asked" in body
    assert engine.seen == []


async def test_one_that_means_nothing_is_the_clients_mistake(tmp_path):
    async with scripted(CHAT) as engine, serving(tmp_path, routing(engine)) as gateway:
        answer = await chat(gateway, "soon")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "x-gateway-timeout"
    assert engine.seen == []

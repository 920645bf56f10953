"""Replicas that answer their probes and fail their requests, one way or another."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.inprocess import Running, serving
from tests.support.kinds import BOTH, good
from tests.support.upstream import (
    CHAT,
    ENGINE_MODEL,
    Silence,
    Upstream,
    failing,
    reply,
    scripted,
)


def routing(*upstreams: Upstream, **backend: object) -> dict[str, object]:
    return {
        "backends": {
            "engine": {
                "use": "openai",
                "replicas": [one.url for one in upstreams],
                "model": ENGINE_MODEL,
                **backend,
            }
        },
        "models": {"tale": {"backend": "engine", "balance": "round_robin"}},
        "telemetry": {"access_log": False},
    }


async def replicas(gateway: Running) -> dict[str, str]:
    """Each one's condition, by its address."""
    said = (await gateway.client.get("/ready")).json()["replicas"]
    return {name.removeprefix("engine@"): condition for name, condition in said.items()}


async def test_one_that_says_retry_after_is_left_alone_until_then_where_another_one_is(tmp_path):
    async with (
        scripted(CHAT) as fine,
        scripted(failing(429, "slow down", ("retry-after", "60"))) as full,
        serving(tmp_path, routing(fine, full)) as gateway,
    ):
        answers = [await gateway.chat() for _ in range(8)]
        told = (await replicas(gateway))[full.id]
        metrics = (await gateway.client.get("/metrics")).text
    assert [answer.status_code for answer in answers] == [200] * 8
    assert len(full.seen) == 1
    assert told.startswith("rate_limited: asked to be left alone for ")
    condition = 'gateway_backend="engine",gateway_condition="rate_limited"'
    where = f'{{{condition},gateway_replica="engine@{full.id}"}}'
    assert f"gateway_replica_condition{where} 1.0" in metrics


LOADING = reply(
    {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}, 503
)


@BOTH
async def test_a_llama_server_that_loads_is_loading_and_nothing_worse(tmp_path, streamed):
    """It was restarted between two probes."""
    async with scripted(*[LOADING] * 6, good(streamed)) as engine:
        document = routing(engine, use="llama_server")
        document["models"]["tale"]["retry"] = {"backoff": "1ms", "max_backoff": "1ms"}
        async with serving(tmp_path, document) as gateway:
            answers = [await gateway.chat(stream=streamed) for _ in range(2)]
            told = (await replicas(gateway))[engine.id]
            answers.append(await gateway.chat(stream=streamed))
            metrics = (await gateway.client.get("/metrics")).text
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert answers[0].json()["error"]["message"].endswith(": loading the model")
    assert answers[0].headers["retry-after"] == "1"
    assert told == "loading the model"
    assert len(engine.seen) == 7
    assert "gateway_replica_ejections_total{" not in metrics


async def test_restarts_that_only_requests_see_count_too(tmp_path):
    """Each probe finds it ready: in the end one is not enough."""
    async with scripted(LOADING) as engine:
        document = routing(engine, use="llama_server")
        document["models"]["tale"]["retry"] = {"backoff": "1ms", "max_backoff": "1ms"}
        async with serving(tmp_path, document) as gateway:
            (one,) = gateway.gateway._state.snapshot.replicas
            believed = []
            for _ in range(4):
                await gateway.chat()
                await gateway.gateway._health.look((one,))
                believed.append(one.readiness.ready)
    assert (believed[0], believed[-1]) == (True, False)


@pytest.mark.slow
async def test_one_that_refuses_the_gateway_is_misconfigured_and_not_tried_again_and_again(
    tmp_path,
):
    async with (
        scripted(CHAT) as fine,
        scripted(failing(401)) as wrong,
        serving(tmp_path, routing(fine, wrong)) as gateway,
    ):
        answers = [await gateway.chat() for _ in range(12)]
        await asyncio.sleep(1.2)  # after that a breaker would try it again
        answers += [await gateway.chat() for _ in range(4)]
        told = (await replicas(gateway))[wrong.id]
    assert [answer.status_code for answer in answers] == [200] * 16
    assert len(wrong.seen) == 3
    assert told.startswith("misconfigured: refuses the gateway's credentials (HTTP 401): check ")
    assert "; tried again in " in told


async def test_a_probe_tells_at_once_who_is_misconfigured(tmp_path):
    async with (
        scripted(CHAT) as fine,
        scripted(CHAT, probe=failing(403)) as wrong,
        serving(tmp_path, routing(fine, wrong)) as gateway,
    ):
        assert (await replicas(gateway))[wrong.id].startswith("misconfigured: the engine wants")
        assert (await gateway.chat()).status_code == 200
    assert wrong.seen == []


@pytest.mark.slow
async def test_one_that_fails_now_and_then_is_found_by_comparison(tmp_path):
    detection = {"interval": "500ms", "base_ejection_time": "30s"}
    async with (
        scripted(CHAT) as fine,
        scripted(*[failing(500), failing(500), CHAT] * 100) as bad,
        serving(tmp_path, routing(fine, bad, outlier_detection=detection)) as gateway,
    ):
        for _ in range(20):
            await asyncio.gather(*(gateway.chat() for _ in range(8)))
            if (told := (await replicas(gateway))[bad.id]).startswith("ejected: "):
                break
            await asyncio.sleep(0.1)
        asked = len(bad.seen)
        answers = [await gateway.chat() for _ in range(6)]
    assert told.startswith("ejected: "), told
    assert "of its requests fail; tried again in" in told
    assert [answer.status_code for answer in answers] == [200] * 6
    assert len(bad.seen) == asked


@pytest.mark.slow
async def test_one_whose_server_outlives_its_generator_is_found_before_anybody_asks(tmp_path):
    health = {"token_interval": "200ms", "token_timeout": "200ms"}
    async with (
        scripted(CHAT) as fine,
        scripted((Silence(),)) as dead,
        serving(tmp_path, routing(fine, dead, health=health)) as gateway,
    ):
        async with asyncio.timeout(10):
            while (told := (await replicas(gateway))[dead.id]) == "ready":
                await asyncio.sleep(0.05)
        answers = [await gateway.chat() for _ in range(4)]
        metrics = (await gateway.client.get("/metrics")).text
        chats = [seen for seen in dead.seen if seen.path == "/v1/chat/completions"]
        dead.heal(CHAT)
        async with asyncio.timeout(10):
            while (await replicas(gateway))[dead.id] != "ready":
                await asyncio.sleep(0.05)
    assert told == "unhealthy: made no token within 0.2 s"
    assert [answer.status_code for answer in answers] == [200] * 4
    assert chats == []
    assert 'gateway_attempts_total{gateway_attempt_cause="ok"' in metrics
    assert metrics.count("gateway_attempts_total{") == 1, "a probe is no attempt"

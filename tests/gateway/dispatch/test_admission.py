"""Requests before a model's gate, through a gateway on sockets."""

from __future__ import annotations

import asyncio
import contextlib
import time
from math import inf
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from gateway.config.structs import Model, Queue
from gateway.dispatch.admission import Admission, Pass
from gateway.dispatch.watchdog import Watchdogs
from gateway.routing.admission import Gate, Priority, Visitor
from gateway.telemetry.metrics import Metrics
from tests.support.inprocess import ask, routing, serving
from tests.support.kinds import BOTH, good
from tests.support.upstream import (
    CHAT,
    ENGINE_MODEL,
    STORY,
    Hold,
    Pause,
    Reset,
    Silence,
    failing,
    scripted,
    stream,
)

KEYS = {
    "alice": {"value": "alice-secret", "max_priority": "high"},
    "bob": {"value": "bob-secret-0"},
}


async def post(gateway, *, streamed=False, **headers):
    named = {"key": "x-api-key", "request": "x-request-id"}
    fields = {named.get(name, f"x-gateway-{name}"): said for name, said in headers.items()}
    return await gateway.client.post(
        "/v1/chat/completions", json=ask(stream=streamed), headers=fields
    )


async def value(gateway, name):
    """The sum of all series whose name begins so."""
    lines = gateway.gateway._metrics.render().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


async def until(gateway, name, wanted):
    async with asyncio.timeout(5):
        while await value(gateway, name) != wanted:
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def narrow(tmp_path, *scripts, size=1, timeout="5s", budget=None, **sections):
    """A model with a single place, on an engine that plays `scripts`."""
    model = {"concurrency": 1, "queue": {"size": size, "timeout": timeout}}
    if budget is not None:
        model["budget"] = budget
    async with (
        scripted(*scripts) as engine,
        serving(tmp_path, routing(engine, model=model, **sections)) as gateway,
    ):
        yield gateway, engine


@BOTH
async def test_one_waits_and_the_next_is_told_to_come_back(tmp_path, streamed):
    answer = good(streamed)
    async with narrow(tmp_path, (Hold(), *answer), answer) as (gateway, engine):
        first = asyncio.create_task(post(gateway, streamed=streamed))
        await until(gateway, "gateway_admission_inside", 1)
        second = asyncio.create_task(post(gateway, streamed=streamed))
        await until(gateway, "gateway_admission_waiting", 1)
        refused = await post(gateway, streamed=streamed)
        assert len(engine.seen) == 1
        engine.release()
        answers = [await first, await second]
        assert await value(gateway, "gateway_admission_inside") == 0
        assert await value(gateway, "gateway_admission_refused_total") == 1
    assert [answer.status_code for answer in answers] == [200, 200]
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["x-gateway-attempts"] == "0"
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "queue_full")


async def test_a_client_that_leaves_frees_its_place_inside_and_in_the_queue(tmp_path):
    async with narrow(tmp_path, (Silence(),), CHAT) as (gateway, engine):
        inside = asyncio.create_task(post(gateway))
        await until(gateway, "gateway_admission_inside", 1)
        waiting = asyncio.create_task(post(gateway))
        await until(gateway, "gateway_admission_waiting", 1)
        waiting.cancel()
        await until(gateway, "gateway_admission_waiting", 0)
        third = asyncio.create_task(post(gateway))
        await until(gateway, "gateway_admission_waiting", 1)
        inside.cancel()
        assert (await third).status_code == 200
        assert await value(gateway, "gateway_admission_inside") == 0
        assert len(engine.seen) == 2


async def test_a_stream_that_breaks_off_frees_its_place(tmp_path):
    torn = stream(*STORY[:2], Reset(), ended=False)
    async with narrow(tmp_path, torn, stream(*STORY)) as (gateway, _):
        await post(gateway, streamed=True)
        assert (await post(gateway, streamed=True)).status_code == 200
        assert await value(gateway, "gateway_admission_inside") == 0


@BOTH
async def test_only_whole_answers_teach_how_long_one_takes(tmp_path, streamed):
    bad = stream(*STORY[:2], Reset(), ended=False) if streamed else failing(400)
    async with narrow(tmp_path, bad, good(streamed)) as (gateway, _):
        learnt = []
        for _ in range(2):
            await post(gateway, streamed=streamed)
            (gate,) = gateway.gateway._attempts._admission._gates.values()
            learnt.append(gate.service is not None)
        assert learnt == [False, True]
        assert gate.inside == 0


def test_what_goes_before_an_answer_does_not_count_to_it():
    """A backoff, or the start of an engine: the next ones will not wait for that."""
    gate, visitor = Gate(1, 9), Visitor()
    gate.arrive(visitor, 0.0)
    place = Pass(Admission(Metrics("1")), gate, visitor, lambda: 62.0)
    place.asked(60.0)
    place.give_back(served=True)
    place.give_back(served=True)
    assert (gate.service, gate.inside) == (2.0, 0)


async def test_a_client_that_leaves_in_the_moment_of_its_turn_gives_back_its_place():
    admission, dogs = Admission(Metrics("1")), Watchdogs()
    route = SimpleNamespace(gate="tale", concurrency=1, queue=Queue(), budget=None)

    async def enter():
        dog = dogs.watch(asyncio.current_task())
        fields = {"key_name": None, "priority": Priority.NORMAL, "body": b"", "stream": False}
        try:
            return await admission.enter(SimpleNamespace(watchdog=dog, **fields), route, inf)
        finally:
            dog.close()

    first = await enter()
    leaving, last = asyncio.create_task(enter()), asyncio.create_task(enter())
    await asyncio.sleep(0)
    first.give_back()
    leaving.cancel()
    async with asyncio.timeout(5):
        (await last).give_back()
    assert leaving.cancelled()
    assert [one.inside for one in admission.states()] == [0]


@pytest.mark.slow
async def test_nor_does_an_attempt_that_has_failed(tmp_path):
    paused = 0.25
    async with narrow(tmp_path, (Pause(paused), *failing(500)), CHAT) as (gateway, engine):
        answer = await post(gateway)
        since = time.monotonic() - engine.seen[0].at
        (gate,) = gateway.gateway._attempts._admission._gates.values()
    assert (answer.status_code, len(engine.seen)) == (200, 2)
    assert gate.service < since - paused + 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("queued", "own"), [("50ms", {}), ("30s", {"timeout": "250ms"})])
async def test_who_waits_too_long_or_has_less_time_is_told(tmp_path, queued, own):
    async with narrow(tmp_path, (Silence(),), size=9, timeout=queued) as (gateway, _):
        inside = asyncio.create_task(post(gateway))
        await until(gateway, "gateway_admission_inside", 1)
        answer = await post(gateway, **own)
        inside.cancel()
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_timeout")


@pytest.mark.parametrize("budget", [{"ttft": "50ms"}, {"total": "50ms"}])
async def test_nobody_waits_longer_than_the_latency_budget_has(tmp_path, budget):
    async with narrow(tmp_path, (Silence(),), budget=budget) as (gateway, _):
        inside = asyncio.create_task(post(gateway, streamed=True))
        await until(gateway, "gateway_admission_inside", 1)
        answer = await post(gateway, streamed=True)
        inside.cancel()
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_timeout")
    assert "`budget`" in answer.json()["error"]["message"]


async def test_the_urgent_go_first_as_far_as_their_key_lets_them(tmp_path):
    async with narrow(tmp_path, (Hold(), *CHAT), CHAT, size=9, keys=KEYS) as (gateway, engine):

        async def wait(number, **headers):
            asked = asyncio.create_task(post(gateway, **headers))
            await until(gateway, "gateway_admission_waiting", number)
            return asked

        alice, bob = "alice-secret", "bob-secret-0"
        first = asyncio.create_task(post(gateway, key=bob))
        await until(gateway, "gateway_admission_inside", 1)
        waiting = [
            await wait(1, key=bob, priority="low", request="low"),
            await wait(2, key=bob, priority="high", request="capped"),
            await wait(3, key=alice, priority="high", request="high"),
            await wait(4, key=bob, priority="normal", request="normal"),
        ]
        engine.release()
        assert {(await one).status_code for one in [first, *waiting]} == {200}
        order = [seen.header("x-request-id") for seen in engine.seen]
        odd = await post(gateway, key=bob, priority="asap")
    assert order[1:] == ["high", "capped", "normal", "low"]
    assert odd.status_code == 400
    assert odd.json()["error"]["param"] == "x-gateway-priority"


async def test_overflow_goes_to_the_model_for_that(tmp_path):
    async with scripted((Silence(),)) as busy, scripted(CHAT) as spare:
        document = {
            "backends": {
                "busy": {"use": "openai", "replicas": [busy.url], "model": ENGINE_MODEL},
                "spare": {"use": "openai", "replicas": [spare.url], "model": ENGINE_MODEL},
            },
            "models": {
                "tale": {
                    "backend": "busy",
                    "concurrency": 1,
                    "queue": {"size": 0},
                    "fallback": {"overloaded": ["other"]},
                },
                "other": {"backend": "spare"},
            },
            "telemetry": {"access_log": False},
        }
        async with serving(tmp_path, document) as gateway:
            inside = asyncio.create_task(post(gateway))
            await until(gateway, "gateway_admission_inside", 1)
            answer = await post(gateway)
            inside.cancel()
    assert answer.status_code == 200
    assert answer.headers["x-gateway-model"] == "other"
    assert len(busy.seen) == 1


@pytest.mark.parametrize(
    ("wished", "options", "told"),
    [
        ("high", {"use": "vllm", "priority_scheduling": True}, -1),
        ("low", {"use": "vllm", "priority_scheduling": True}, 1),
        ("normal", {"use": "vllm", "priority_scheduling": True}, 7),
        ("high", {"use": "vllm"}, 7),
        ("high", {"use": "openai"}, 7),
    ],
)
async def test_an_engine_that_asks_is_told_how_urgent_it_is(tmp_path, wished, options, told):
    async with scripted(CHAT) as engine:
        document = routing(engine)
        document["backends"]["engine"] |= options
        async with serving(tmp_path, document) as gateway:
            headers = {"x-gateway-priority": wished}
            body = {**ask(), "priority": 7, "odd": 1.50}
            await gateway.client.post("/v1/chat/completions", json=body, headers=headers)
    seen = engine.seen[0].json
    assert (seen["priority"], seen["model"], seen["odd"]) == (told, ENGINE_MODEL, 1.5)


@pytest.mark.parametrize("path", ["chat/completions", "completions", "embeddings", "responses"])
async def test_a_key_does_not_jump_an_engines_queue_by_a_field_of_its_own(tmp_path, path):
    async with scripted(CHAT) as engine:
        document = routing(engine, keys=KEYS)
        async with serving(tmp_path, document) as gateway:
            for key, wished in (("alice-secret", -9), ("bob-secret-0", -9), ("bob-secret-0", 3)):
                body = {**ask(), "prompt": "p", "input": "i", "priority": wished}
                await gateway.client.post(f"/v1/{path}", json=body, headers={"x-api-key": key})
    assert [seen.json["priority"] for seen in engine.seen] == [-1, 0, 3]


async def test_a_new_configuration_lets_in_who_waits_already(tmp_path):
    async with narrow(tmp_path, (Hold(), *CHAT), size=9) as (gateway, engine):
        config = gateway.gateway._state.snapshot.config
        wider = {**config.models, "tale": replace(config.models["tale"], concurrency=2)}
        asked = [asyncio.create_task(post(gateway)) for _ in range(3)]
        await until(gateway, "gateway_admission_waiting", 2)
        gateway.gateway._take_over(replace(config, models=wider))
        await until(gateway, "gateway_admission_inside", 2)
        await until(gateway, "gateway_admission_waiting", 1)
        gateway.gateway._take_over(replace(config, models={}))
        assert await value(gateway, "gateway_admission_inside") == 2  # still there
        engine.release()
        assert {(await one).status_code for one in asked} == {200}
        assert not list(gateway.gateway._attempts._admission.states())


async def test_a_new_configuration_without_a_bound_lets_all_in(tmp_path):
    async with narrow(tmp_path, (Hold(), *CHAT), size=9) as (gateway, engine):
        config = gateway.gateway._state.snapshot.config
        free = {**config.models, "tale": replace(config.models["tale"], concurrency=None)}
        asked = [asyncio.create_task(post(gateway)) for _ in range(3)]
        await until(gateway, "gateway_admission_waiting", 2)
        gateway.gateway._take_over(replace(config, models=free))
        await until(gateway, "gateway_admission_inside", 3)
        assert await value(gateway, "gateway_admission_places") == inf
        engine.release()
        assert {(await one).status_code for one in asked} == {200}
        assert not list(gateway.gateway._attempts._admission.states())


class TestWhatARequestFromBeforeAReloadMeets:
    """It still sees the configuration of its time; who is inside is counted once for all."""

    def setup_method(self):
        self.admission = Admission(Metrics("1"))
        self.ask = SimpleNamespace(
            key_name=None, priority=Priority.NORMAL, body=b"", watchdog=SimpleNamespace(now=float)
        )

    def enter(self, places):
        route = SimpleNamespace(gate="tale", concurrency=places, queue=Queue())
        return self.admission.try_enter(self.ask, route)

    def reload(self, places):
        model = Model(backend="engine", concurrency=places)
        self.admission.take_over({} if places == "gone" else {"tale": model}, 0.0)

    @property
    def places(self):
        return [state.places for state in self.admission.states()]

    def test_the_new_places(self):
        assert self.enter(3)
        self.reload(2)
        assert self.enter(3)
        assert not self.enter(3)
        assert self.places == [2]

    def test_the_new_places_also_where_it_is_the_first(self):
        self.reload(1)
        assert self.enter(3)
        assert self.places == [1]

    @pytest.mark.parametrize("now", [None, "gone"])
    def test_its_own_gate_where_there_is_none_any_more_for_as_long_as_it_is_there(self, now):
        self.reload(now)
        place = self.enter(3)
        assert self.places == [3]
        place.give_back()
        assert self.places == []

    def test_a_gate_that_comes_back_still_knows_who_is_inside(self):
        place = self.enter(1)
        self.reload("gone")
        self.reload(1)
        assert not self.enter(1)
        place.give_back()
        assert self.enter(1)

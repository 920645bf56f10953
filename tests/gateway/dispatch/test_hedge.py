"""A second attempt where the first is late, through a gateway on sockets."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import msgspec
import pytest

from gateway.config.structs import Hedge
from gateway.dispatch import hedge
from gateway.dispatch.answer import Answer
from gateway.dispatch.hedge import Hedges, RouteHedging
from gateway.routing.first_token_times import ENOUGH
from gateway.telemetry.metrics import Metrics
from tests.support.inprocess import ask, routing, serving
from tests.support.upstream import (
    ROLE,
    STORY,
    Hold,
    Pause,
    Reset,
    Silence,
    failing,
    scripted,
    stream,
    text,
)

SOON = {"hedge": {"after": "50ms", "max_percent": 100}}
"""Round robin begins with the second replica: the late one is always asked first."""
GOOD = stream(*STORY)


async def metric(gateway, name):
    text = (await gateway.client.get("/metrics")).text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


async def test_the_first_content_wins_and_the_late_one_is_let_go(tmp_path):
    async with (
        scripted(GOOD) as fast,
        scripted((Silence(),)) as late,
        serving(tmp_path, routing(fast, late, model=SOON)) as gateway,
    ):
        answer = await gateway.chat(stream=True)
        await late.seen[0].gone()
        won = await metric(gateway, "gateway_hedges_total")
        overtaken = await metric(gateway, "gateway_attempts_total")
        text = (await gateway.client.get("/metrics")).text
    assert answer.status_code == 200
    assert answer.text.endswith("data: [DONE]\n\n")
    assert answer.headers["x-gateway-attempts"] == "2"
    assert answer.headers["x-gateway-replica"].endswith(fast.url.split("//")[1])
    assert won == 1
    assert overtaken == 2
    assert 'gateway_attempt_cause="overtaken"' in text
    assert 'gateway_hedge_result="won"' in text


@pytest.mark.slow
async def test_the_first_attempt_may_still_win(tmp_path):
    async with (
        scripted((Silence(),)) as beside,
        scripted((Pause(0.3), *GOOD)) as late,
        serving(tmp_path, routing(beside, late, model=SOON)) as gateway,
    ):
        answer = await gateway.chat(stream=True)
        await beside.seen[0].gone()
        lost = await metric(gateway, "gateway_hedges_total")
        ready = await metric(gateway, "gateway_replica_outstanding")
    assert answer.status_code == 200
    assert answer.headers["x-gateway-replica"].endswith(late.url.split("//")[1])
    assert (lost, ready) == (1, 0)


@pytest.mark.slow
async def test_one_that_fails_leaves_the_first_to_answer(tmp_path):
    async with (
        scripted(failing(500)) as beside,
        scripted((Pause(0.3), *GOOD)) as late,
        serving(tmp_path, routing(beside, late, model=SOON)) as gateway,
    ):
        answer = await gateway.chat(stream=True)
        text = (await gateway.client.get("/metrics")).text
    assert answer.status_code == 200
    assert 'gateway_hedge_result="failed"' in text


async def test_both_failing_is_a_failure_like_any_other(tmp_path):
    async with (
        scripted(failing(500)) as beside,
        scripted((Pause(0.15), *failing(503))) as late,
        serving(tmp_path, routing(beside, late, model=SOON | {"retry": {"attempts": 2}})) as it,
    ):
        answer = await it.chat(stream=True)
    assert answer.status_code == 503
    assert (len(beside.seen), len(late.seen)) == (1, 1)


async def test_a_client_that_leaves_ends_both(tmp_path):
    async with (
        scripted((Silence(),)) as beside,
        scripted((Silence(),)) as late,
        serving(tmp_path, routing(beside, late, model=SOON)) as gateway,
    ):
        asking = asyncio.create_task(gateway.chat(stream=True))
        while not beside.seen:
            await asyncio.sleep(0.01)
        asking.cancel()
        await beside.seen[0].gone()
        await late.seen[0].gone()
        while await metric(gateway, "gateway_attempts_active"):
            await asyncio.sleep(0.01)
        text = (await gateway.client.get("/metrics")).text
    assert 'gateway_attempt_cause="cancelled"' in text
    assert "overtaken" not in text


@pytest.mark.parametrize(
    ("hedge", "fields", "budget"),
    [
        ({"after": "50ms", "max_percent": 0}, {"stream": True}, {}),
        ({"after": "50ms", "max_percent": 100}, {}, {}),
        ({}, {"stream": True}, {}),
        (
            {"after": "50ms", "max_percent": 100},
            {"stream": True},
            {"percent": 0, "min_per_second": 0},
        ),
        (None, {"stream": True}, {}),
    ],
    ids=["share spent", "no stream", "nothing learnt", "retry budget spent", "off"],
)
async def test_when_there_is_none(tmp_path, hedge, fields, budget):
    model = {} if hedge is None else {"hedge": hedge}
    good = GOOD if fields else failing(500)
    async with (
        scripted(GOOD) as beside,
        scripted((Pause(0.15), *good)) as late,
        serving(
            tmp_path,
            routing(beside, late, model=model | {"retry": {"attempts": 1}}, retry_budget=budget),
        ) as gateway,
    ):
        await gateway.client.post("/v1/chat/completions", json=ask(**fields))
        spent = [one.budget for one in gateway.gateway._attempts._hedges._routes.values()]
    assert beside.seen == []
    assert all(one.balance == one._share for one in spent), "what no hedge was made of is not spent"


class TestOfAnswersInOnePiece:
    """Whose adapter makes them of a stream, and so sees when their content begins."""

    @staticmethod
    def llamas(*upstreams, model=SOON):
        document = routing(*upstreams, model=model)
        document["backends"]["engine"]["use"] = "llama_server"
        return document

    async def test_the_first_content_wins_and_the_late_one_is_let_go_before_all_of_it(
        self, tmp_path
    ):
        async with (
            scripted(stream(ROLE, text("Once"), Hold(), *STORY[1:])) as fast,
            scripted((Silence(),)) as late,
            serving(tmp_path, self.llamas(fast, late)) as gateway,
        ):
            asking = asyncio.create_task(gateway.chat())
            while not late.seen:
                await asyncio.sleep(0.01)
            await late.seen[0].gone()
            assert not asking.done()
            fast.release()
            answer = await asking
            series = (await gateway.client.get("/metrics")).text
        assert answer.status_code == 200
        assert answer.json()["choices"][0]["message"]["content"].startswith("Once")
        assert answer.headers["x-gateway-replica"].endswith(fast.url.split("//")[1])
        assert 'gateway_attempt_cause="overtaken"' in series
        assert 'gateway_hedge_result="won"' in series

    async def test_one_that_has_begun_is_not_late_however_long_it_takes(self, tmp_path):
        slow = stream(*STORY[:2], Pause(0.2), *STORY[2:])
        async with (
            scripted(GOOD) as beside,
            scripted(slow) as first,
            serving(tmp_path, self.llamas(beside, first)) as gateway,
        ):
            answer = await gateway.chat()
        assert answer.status_code == 200
        assert (len(beside.seen), len(first.seen)) == (0, 1)

    async def test_one_that_breaks_off_after_it_has_won_is_tried_again(self, tmp_path):
        async with (
            scripted(stream(*STORY[:2], Pause(0.05), Reset(), ended=False), GOOD) as fast,
            scripted((Silence(),), GOOD) as late,
            serving(tmp_path, self.llamas(fast, late)) as gateway,
        ):
            answer = await gateway.chat()
            left = await metric(gateway, "gateway_attempts_active")
        assert answer.status_code == 200
        assert answer.headers["x-gateway-attempts"] == "3"
        assert left == 0

    async def test_a_client_that_leaves_while_the_winner_works_ends_it(self, tmp_path):
        async with (
            scripted(stream(*STORY[:2], Silence())) as fast,
            scripted((Silence(),)) as late,
            serving(tmp_path, self.llamas(fast, late)) as gateway,
        ):
            asking = asyncio.create_task(gateway.chat())
            while not late.seen:
                await asyncio.sleep(0.01)
            await late.seen[0].gone()
            asking.cancel()
            await fast.seen[0].gone()
            while await metric(gateway, "gateway_attempts_active"):
                await asyncio.sleep(0.01)

    async def test_its_content_and_not_its_end_is_what_a_percentile_is_learnt_from(self, tmp_path):
        model = {"hedge": {"after": "p95"}}
        held = stream(*STORY[:2], Hold(), *STORY[2:])
        async with (
            scripted(held) as one,
            scripted(held) as other,
            serving(tmp_path, self.llamas(one, other, model=model)) as gateway,
        ):
            asked = [asyncio.create_task(gateway.chat()) for _ in range(ENOUGH)]
            routes = gateway.gateway._attempts._hedges._routes
            async with asyncio.timeout(5):
                while not routes or routes["tale"].delay() is None:
                    await asyncio.sleep(0.01)
            one.release()
            other.release()
            assert {(await answer).status_code for answer in asked} == {200}


async def test_of_two_answers_in_the_same_moment_one_is_closed():
    loop, both, closed = asyncio.get_running_loop(), asyncio.Event(), []

    class Heard(Answer):
        def __init__(self, name):
            self.name, self.attempt = name, SimpleNamespace()

        async def close(self):
            closed.append(self.name)

    class Asked(msgspec.Struct):
        watchdog: object
        stream: bool = True
        on_content: object = None
        overtaken: bool = False
        record: object = msgspec.field(default_factory=SimpleNamespace)

    async def try_on(_, choice):
        await both.wait()
        return Heard(choice.replica.id)

    def another():
        loop.call_soon(both.set)
        return choices[1]

    choices = [SimpleNamespace(replica=SimpleNamespace(id=name)) for name in "ab"]
    watchdog = SimpleNamespace(now=loop.time, close=lambda: None)
    watchdog.of = lambda _: watchdog
    hedges = Hedges(Metrics("1"))
    route = RouteHedging("tale", Hedge(after="1ms"))
    outcome = await hedges.run(Asked(watchdog), route, choices[0], try_on, another)
    await hedges.stop()
    assert [outcome.answer.name, *closed] == ["a", "b"]


def test_a_percentile_is_learnt_and_a_duration_is_known():
    learnt, known = (RouteHedging("a", Hedge(after=after)) for after in ("p90", "250ms"))
    assert learnt.delay() is None
    assert known.delay() == 0.25
    for number in range(ENOUGH * 2):
        learnt.times.add(float(number))
    assert learnt.delay() == 89


def test_a_route_that_is_configured_anew_begins_anew():
    hedges = Hedges(Metrics("1"))
    route = hedges.of("a", Hedge())
    assert hedges.of("a", Hedge()) is route
    assert hedges.of("b", Hedge()) is not route
    assert hedges.of("a", Hedge(after="1s")) is not route


@pytest.mark.parametrize(("takes", "told"), [(0.05, False), (60.0, True)])
async def test_at_the_end_what_was_overtaken_is_awaited_for_a_while(
    takes, told, caplog, monkeypatch
):
    monkeypatch.setattr(hedge, "_ENDING_TIME", 0.2)
    hedges = Hedges(Metrics("1"))
    ending = asyncio.create_task(asyncio.sleep(takes))
    hedges._ending.add(ending)
    await hedges.stop()
    await asyncio.wait([ending])
    assert ending.cancelled() is told
    assert ("overtaken" in caplog.text) is told


async def test_who_stops_the_gateway_waits_for_it(tmp_path):
    """A replica that is let go slowly is still done with before the engines are stopped."""
    async with (
        scripted(GOOD) as fast,
        scripted((Silence(),)) as late,
        serving(tmp_path, routing(fast, late, model=SOON)) as gateway,
    ):
        await gateway.chat(stream=True)
        hedges = gateway.gateway._attempts._hedges
        slow = asyncio.create_task(asyncio.sleep(0.1))
        hedges._ending.add(slow)
    assert slow.done()
    assert not slow.cancelled()

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace

import pytest

from backends.options import Health, LlamaCppOptions, OpenAIOptions
from backends.readiness import Condition, Readiness
from backends.units import Duration
from gateway.control.tokens import AGAIN, TokenMonitor, is_due, model_of
from gateway.routing.replica import Replica

EVERY = Health(token_interval=Duration(60))
DEAD = Readiness(False, "made no token within 10 s")


class Engine:
    """A backend of which only a token is asked."""

    def __init__(self, *said):
        self._said = list(said)
        self.asked = []

    async def look_closely(self, address, model, within, *, busy):
        self.asked.append((address, model, within, busy))
        said = self._said.pop(0) if len(self._said) > 1 else self._said[0]
        if isinstance(said, Exception):
            raise said
        return said


def ready(engine):
    one = Replica("b", engine, "http://a")
    one.observe(Readiness(True))
    return one


def route(*variants):
    return SimpleNamespace(variants=variants)


def variant(backend="b", upstream="m", adapter=None):
    return SimpleNamespace(backend=backend, upstream=upstream, adapter=adapter)


def snapshot(*replicas, health=EVERY, options=None):
    options = options or OpenAIOptions(replicas=("http://a",), health=health)
    return SimpleNamespace(
        replicas=replicas,
        config=SimpleNamespace(backends={"b": options}),
        table=SimpleNamespace(routes=(route(variant()),)),
    )


class Watch:
    """A monitor that runs, and the time."""

    def __init__(self, state):
        self.now = 0.0
        self._monitor = TokenMonitor(
            SimpleNamespace(snapshot=state), tick=0.001, clock=lambda: self.now
        )

    async def until(self, now):
        """Have it look at that time, as often as it likes."""
        self.now = now
        for _ in range(10):  # not one long sleep: a busy machine may wake both out of that at once
            await asyncio.sleep(0.002)

    @contextlib.asynccontextmanager
    async def running(self):
        task = asyncio.create_task(self._monitor.run())
        try:
            await asyncio.sleep(0.01)
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_one_that_nobody_has_asked_for_a_while_is_asked_and_no_sooner():
    engine = Engine(Readiness(True))
    one = ready(engine)
    async with Watch(snapshot(one)).running() as watch:
        await watch.until(59.0)
        assert engine.asked == []
        await watch.until(60.0)
        assert engine.asked == [("http://a", "m", 10.0, False)]
        await watch.until(119.0)
        assert len(engine.asked) == 1
    assert (one.outstanding, one.load.prompt_tokens, one.tally.successes) == (0, 0, 0)


async def test_while_requests_are_answered_nobody_is_asked():
    engine = Engine(Readiness(True))
    one = ready(engine)
    async with Watch(snapshot(one)).running() as watch:
        for now in (50.0, 100.0, 150.0):
            one.answers(one.breaker.sent(now), now, 0.1)
            await watch.until(now + 9)
    assert engine.asked == []


async def test_one_that_makes_none_gets_no_requests_until_it_does():
    engine = Engine(DEAD, DEAD, Readiness(True))
    one = ready(engine)
    async with Watch(snapshot(one)).running() as watch:
        await watch.until(60.0)
        assert not one.may_take_traffic(60.0)
        assert (one.condition(60.0), one.why_not(60.0)) == (Condition.UNHEALTHY, DEAD.reason)
        await watch.until(60.0 + AGAIN)
        assert not one.may_take_traffic(watch.now)
        await watch.until(60.0 + 2 * AGAIN)
        assert one.may_take_traffic(watch.now)


async def test_one_that_refuses_the_gateway_is_misconfigured_until_it_does_not():
    refused = Readiness(False, "misconfigured: look at the key", Condition.MISCONFIGURED)
    one = ready(Engine(refused, DEAD, Readiness(True)))
    async with Watch(snapshot(one)).running() as watch:
        await watch.until(60.0)
        assert one.condition(60.0) is Condition.MISCONFIGURED
        assert one.why_not(60.0) == refused.reason
        assert not one.may_take_traffic(60.0)
        await watch.until(60.0 + AGAIN)
        assert one.condition(watch.now) is Condition.UNHEALTHY
        await watch.until(60.0 + 2 * AGAIN)
        assert one.condition(watch.now) is Condition.READY


async def test_a_request_that_it_answers_all_the_same_says_more():
    one = ready(Engine(DEAD))
    async with Watch(snapshot(one)).running() as watch:
        await watch.until(60.0)
        one.answers(one.breaker.sent(61.0), 61.0, 0.1)
        assert one.may_take_traffic(61.0)


async def test_a_restart_is_a_clean_record():
    one = ready(Engine(DEAD))
    async with Watch(snapshot(one)).running() as watch:
        await watch.until(60.0)
    one.observe(Readiness(False, "gone"))
    one.observe(Readiness(True))
    assert one.may_take_traffic(61.0)


@pytest.mark.parametrize("said", [None, ZeroDivisionError("oops")])
async def test_what_tells_nothing_changes_nothing(said):
    one = ready(Engine(said))
    async with Watch(snapshot(one)).running() as watch:
        await watch.until(60.0)
        await watch.until(120.0)
    assert len(one.backend.asked) == 2
    assert one.may_take_traffic(120.0)


async def test_a_question_that_hangs_is_the_only_one_to_that_replica():
    class Hung(Engine):
        async def look_closely(self, *_, **__):
            self.asked.append(None)
            await asyncio.Event().wait()

    hung, fine = ready(Hung(None)), ready(Engine(Readiness(True)))
    async with Watch(snapshot(hung, fine)).running() as watch:
        for now in (60.0, 120.0, 180.0):
            await watch.until(now)
    assert len(hung.backend.asked) == 1
    assert len(fine.backend.asked) == 3


async def test_the_word_of_an_adapter_that_a_reload_has_replaced_is_no_news():
    one = ready(Engine(DEAD))

    class Late(Engine):
        async def look_closely(self, *_, **__):
            one.backend = Engine(Readiness(True))
            return DEAD

    one.backend = Late(DEAD)
    async with Watch(snapshot(one)).running() as watch:
        await watch.until(60.0)
    assert one.may_take_traffic(60.0)


@pytest.mark.parametrize(
    "other",
    [
        snapshot(ready(Engine(DEAD)), health=Health()),
        snapshot(ready(Engine(DEAD)), options=LlamaCppOptions(model="m.gguf")),
        snapshot(Replica("b", Engine(DEAD), "http://a")),
    ],
)
async def test_who_is_not_asked(other):
    async with Watch(other).running() as watch:
        await watch.until(1000.0)
    assert other.replicas[0].backend.asked == []


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.config.backends.update(b=OpenAIOptions(replicas=("http://a",))),
        lambda state: state.config.backends.update(b=LlamaCppOptions(model="m.gguf")),
        lambda state: setattr(state, "table", SimpleNamespace(routes=())),
    ],
)
async def test_one_that_nobody_asks_any_more_is_not_stuck_for_good(change):
    one = ready(Engine(DEAD))
    state = snapshot(one)
    async with Watch(state).running() as watch:
        await watch.until(60.0)
        assert not one.may_take_traffic(60.0)
        change(state)
        await watch.until(61.0)
    assert one.may_take_traffic(61.0)


def test_a_stuck_one_is_not_asked_more_often_than_it_would_be():
    one = ready(Engine(DEAD))
    one.stuck = "no token"
    assert is_due(one, EVERY, 0.0, AGAIN)
    assert not is_due(one, EVERY, 0.0, AGAIN - 1)
    assert is_due(one, Health(token_interval=Duration(1)), 0.0, 1.0)


def test_the_model_is_one_that_the_backend_has_without_an_adapter():
    table = SimpleNamespace(
        routes=(
            route(variant(backend="other", upstream="x"), variant(upstream=None)),
            route(variant(upstream="lora", adapter="a"), variant(upstream="base")),
        )
    )
    assert model_of(SimpleNamespace(table=table), "b") == "base"
    assert model_of(SimpleNamespace(table=table), "nobody") is None

from __future__ import annotations

import asyncio
import math
import time
from types import SimpleNamespace

import pytest

from backends.readiness import Readiness
from gateway.control.health import HealthMonitor
from gateway.routing.replica import Replica
from tests.support.until import until


class Probed:
    """A backend of which only the probe is asked."""

    def __init__(self, probe, beside=None):
        self._probe = probe
        self.probes_beside = beside

    async def probe(self, address):
        return await self._probe()


def replica(name, probe):
    return Replica("engine", Probed(probe), f"http://{name}")


async def good():
    return Readiness(True)


async def hung():
    await asyncio.Event().wait()


async def broken():
    raise ZeroDivisionError("oops")


def monitor(*replicas, interval=60.0, timeout=0.1, on_return=None):
    state = SimpleNamespace(snapshot=SimpleNamespace(replicas=replicas))
    return HealthMonitor(state, interval, timeout, on_return)


async def test_a_hung_probe_delays_no_other_and_is_called_what_it_is():
    fine, stuck = replica("a", good), replica("b", hung)
    look = asyncio.create_task(monitor(fine, stuck).look((fine, stuck)))
    await asyncio.sleep(0.02)
    assert fine.may_take_traffic(0.0)
    await asyncio.wait_for(look, 1)
    assert not stuck.may_take_traffic(0.0)
    assert "0.1 s" in stuck.why_not(0.0)


async def test_a_bug_in_a_probe_ends_nothing(caplog):
    fine, odd = replica("a", good), replica("b", broken)
    await monitor(fine, odd).look((odd, fine))
    assert fine.may_take_traffic(0.0)
    assert not odd.may_take_traffic(0.0)
    assert "oops" in caplog.text
    assert "oops" not in odd.why_not(0.0)


async def test_it_looks_again_and_again_and_leaves_the_load_alone():
    looks = []

    async def counted():
        looks.append(None)
        return Readiness(True)

    one = replica("a", counted)
    for _ in range(3):
        one.load.begin(0.0, 1)
    task = asyncio.create_task(monitor(one, interval=0.01).run())
    async with asyncio.timeout(5):
        while len(looks) < 3:
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert one.outstanding == 3


async def test_the_word_of_an_adapter_that_a_reload_has_replaced_is_no_news():
    asked, answer = asyncio.Event(), asyncio.Event()

    async def late():
        asked.set()
        await answer.wait()
        return Readiness(False, "the connection was closed on this side")

    one = replica("a", late)
    one.observe(Readiness(True))
    look = asyncio.create_task(monitor(one, timeout=5.0).look((one,)))
    await asked.wait()
    one.backend = Probed(good)
    answer.set()
    await look
    assert one.readiness.ready


@pytest.mark.parametrize("on_return", [lambda _: hung(), lambda _: broken()])
async def test_who_comes_back_is_ready_whatever_else_becomes_of_that(on_return):
    one = replica("a", good)
    await monitor(one, on_return=on_return).look((one,))
    assert one.readiness.ready


async def test_a_newer_word_stays():
    one = replica("a", good)

    async def dies(_):
        one.observe(Readiness(False, "died"))

    await monitor(one, on_return=dies).look((one,))
    assert one.readiness == Readiness(False, "died")


async def test_a_word_that_comes_too_late_is_not_counted_against_it():
    said = [Readiness(False, "gone"), Readiness(True), Readiness(False, "gone"), Readiness(True)]
    late = asyncio.Event()

    async def probe():
        word = said.pop(0)
        if len(said) == 3:
            await late.wait()
        return word

    one = replica("a", probe)
    one.observe(Readiness(True))
    watching = monitor(one, timeout=5.0)
    first = asyncio.create_task(watching.look((one,)))
    await asyncio.sleep(0)
    await watching.look((one,))
    late.set()
    await first
    assert one.readiness.ready
    await watching.look((one,))
    await watching.look((one,))
    assert one.readiness.ready, "it was away once"


async def test_one_that_flaps_is_watched_before_it_is_believed():
    said, now = [], 0.0

    async def probe():
        return said.pop(0)

    one = replica("a", probe)
    state = SimpleNamespace(snapshot=SimpleNamespace(replicas=(one,)))
    watching = HealthMonitor(state, clock=lambda: now)

    async def look(*ready):
        said[:] = [Readiness(is_ready, "" if is_ready else "gone") for is_ready in ready]
        seen = []
        for _ in ready:
            await watching.look((one,))
            seen.append(one.readiness.ready)
        return seen

    up, down = True, False
    assert await look(up, down, up) == [True, False, True], "once is nothing"
    assert await look(down, up) == [False, False]
    assert "away 2 times lately" in one.readiness.reason
    assert await look(up) == [True]
    assert await look(down, up, down, up, up, up) == [False, False, False, False, False, True]
    now = 1000.0
    assert await look(down, up) == [False, True], "it is forgiven"


async def test_a_restart_that_requests_see_first_is_counted_once_each():
    one = replica("a", good)
    state = SimpleNamespace(snapshot=SimpleNamespace(replicas=(one,)))
    watching = HealthMonitor(state, clock=lambda: 10.0)
    await watching.look((one,))
    seen = []
    for _ in range(3):
        for _ in range(5):
            one.loads("loading the model", 10.0)
        looks = 0
        while not one.readiness.ready:
            await watching.look((one,))
            looks += 1
        seen.append(looks)
    assert seen == [1, 2, 3]


async def test_each_yes_is_a_sign_of_life_and_nothing_else_is():
    fine, odd, never = replica("a", good), replica("b", broken), replica("c", hung)
    before = time.monotonic()
    await monitor(fine, odd, never).look((fine, odd, never))
    assert before <= fine.alive_at <= time.monotonic()
    assert odd.alive_at == never.alive_at == -math.inf
    assert fine.gone_since is None
    assert never.gone_since == -math.inf


class TestSilence:
    @staticmethod
    async def watched(beside=None, requests=0, meanwhile=lambda _: None):
        """A replica with so many requests, whose probes nothing comes back of; `meanwhile` is
        called with it at each."""
        asked = []

        async def probe():
            asked.append(one)
            meanwhile(one)
            return Readiness(False, "x", silent=True)

        one = Replica("engine", Probed(probe, beside), "http://a")
        one.observe(Readiness(True))
        for _ in range(requests):
            one.load.begin(0.0, 1)
        watching = asyncio.create_task(monitor(one).run())
        await until(lambda: len(asked) == 3, every=0)
        watching.cancel()
        return one

    async def test_who_says_nothing_is_asked_again_at_once_and_then_known_to_be_silent(self):
        since = time.monotonic()
        one = await self.watched()
        assert not one.readiness.ready
        assert one.is_silent(since)
        assert not one.is_silent(time.monotonic()), "it was asked before that"

    async def test_one_with_too_many_requests_may_have_nobody_left_to_answer(self):
        since = time.monotonic()
        assert (await self.watched(beside=4, requests=4)).is_silent(since)
        one = await self.watched(beside=4, requests=5)
        assert not one.is_silent(since)
        assert not one.readiness.ready

    async def test_a_token_meanwhile_says_more(self):
        one = await self.watched(
            meanwhile=lambda one: setattr(one, "answered_at", time.monotonic())
        )
        assert one.readiness.ready
        assert not one.is_silent(0.0)


async def test_a_probe_that_hangs_is_silence():
    one = replica("a", hung)
    since = time.monotonic()
    for _ in range(3):
        await monitor(one, timeout=0.01).look((one,))
    assert one.is_silent(since)

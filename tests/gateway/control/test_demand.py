from __future__ import annotations

import asyncio
import contextlib
import time
from types import SimpleNamespace

import pytest

from backends.load import Demand
from gateway.control.demand import DemandMonitor, wants_demand
from gateway.policies import POLICIES
from gateway.routing.load import ReplicaLoad
from tests.support.until import until


class Asked:
    """A replica that counts the questions, and answers as `say` does."""

    def __init__(self, say):
        self.id = self.address = "replica"
        self.backend = self
        self.load = ReplicaLoad()
        self.questions = 0
        self._say = say

    async def demand(self, address):
        self.questions += 1
        return await self._say()


async def busy():
    return Demand(3, 1)


async def silent():
    return None


async def hung():
    await asyncio.Event().wait()


async def broken():
    raise ZeroDivisionError("oops")


def snapshot(*replicas, balance="prefix_affinity"):
    variant = SimpleNamespace(policy=POLICIES[balance](), replicas=replicas)
    return SimpleNamespace(table=SimpleNamespace(routes=[SimpleNamespace(variants=[variant])]))


@contextlib.asynccontextmanager
async def watched(state, **fields):
    monitor = DemandMonitor(state, **{"interval": 0.01, "timeout": 0.05, **fields})
    task = asyncio.create_task(monitor.run())
    yield monitor
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_an_engine_says_is_heard_again_and_again():
    one, other = Asked(busy), Asked(busy)
    async with watched(SimpleNamespace(snapshot=snapshot(one, other))):
        await until(lambda: one.questions >= 3)
        assert one.load.demand(time.monotonic()) == Demand(3, 1)
        first = one.load.heard_at
        await until(lambda: one.load.heard_at > first)


@pytest.mark.parametrize("bad", [hung, broken, silent])
async def test_one_that_does_not_say_keeps_nobody_from_being_heard(bad):
    bad_one, good_one = Asked(bad), Asked(busy)
    async with watched(SimpleNamespace(snapshot=snapshot(bad_one, good_one))):
        await until(lambda: good_one.questions >= 20)
    assert 1 <= bad_one.questions < 10
    assert bad_one.load.demand(time.monotonic()) is None


async def test_a_slow_one_is_not_asked_twice_at_a_time():
    slow, other = Asked(hung), Asked(busy)
    async with watched(SimpleNamespace(snapshot=snapshot(slow, other)), timeout=60):
        await until(lambda: other.questions >= 5)
        assert slow.questions == 1


async def test_those_of_a_new_configuration_are_asked_and_gone_ones_forgotten():
    old, new, stays = Asked(busy), Asked(busy), Asked(busy)
    state = SimpleNamespace(snapshot=snapshot(old, stays))
    async with watched(state) as monitor:
        await until(lambda: old.questions)
        state.snapshot = snapshot(new, stays)
        await until(lambda: new.questions)
        assert set(monitor._asked) == {new, stays}


def test_only_those_between_which_a_policy_chooses_by_it_are_asked():
    one, other = Asked(busy), Asked(busy)
    assert wants_demand(snapshot(one, other)) == {one, other}
    assert not wants_demand(snapshot(one))
    assert not wants_demand(snapshot(one, other, balance="round_robin"))

"""Which checks a replica gets, and what they make of a model of another kind."""

from __future__ import annotations

import asyncio

import pytest

from backends.base import BackendError, Cause, Stage
from backends.capabilities import Capability
from gateway.conform.asking import Target
from gateway.conform.examine import examine, until_ready
from gateway.conform.finding import Outcome
from tests.support.embedder import Embedder


def target(backend):
    return Target(name="t", backend=backend, address="here", model="m")


async def test_a_model_that_makes_no_text_breaks_no_promise_by_that():
    found = {one.check: one.outcome async for one in examine(target(Embedder()))}
    assert found.pop("embeddings") is Outcome.KEPT
    assert found.pop("embeddings: a list") is Outcome.KEPT
    assert set(found.values()) == {Outcome.REFUSED}
    assert set(found) == set(Capability) - {Capability.EMBEDDINGS}


async def test_a_replica_is_waited_for():
    assert (await until_ready(target(Embedder(False)), 5)).outcome is Outcome.KEPT


@pytest.mark.slow
@pytest.mark.parametrize("within", [0, 0.3])
async def test_but_not_for_ever(within):
    found = await until_ready(target(Embedder(*[False] * 99)), within)
    assert (found.outcome, found.detail) == (Outcome.BROKEN, "loading")


class Asleep(Embedder):
    """Is as ready as one that sleeps; what `wakes` raises, if anything, it does when woken."""

    def __init__(self, *wakes, takes=0.0):
        super().__init__()
        self._wakes = list(wakes)
        self._takes = takes

    def readying(self, address):
        return self._wake()

    async def _wake(self):
        await asyncio.sleep(self._takes)
        if self._wakes:
            raise self._wakes.pop(0)


NO_ROOM = BackendError(Stage.CONNECT, Cause.REFUSED, "no room in memory")


async def test_one_that_sleeps_is_woken():
    assert (await until_ready(target(Asleep()), 5)).outcome is Outcome.KEPT


async def test_and_once_more_where_it_fails_to_come_up_first():
    assert (await until_ready(target(Asleep(NO_ROOM)), 5)).outcome is Outcome.KEPT


@pytest.mark.slow
@pytest.mark.parametrize("within", [0, 0.3])
async def test_one_that_does_not_wake_up_is_told_with_its_reason(within):
    found = await until_ready(target(Asleep(*[NO_ROOM] * 99)), within)
    assert found.outcome is Outcome.BROKEN
    assert found.detail


async def test_one_that_takes_too_long_to_wake_up():
    found = await until_ready(target(Asleep(takes=30)), 0.1)
    assert (found.outcome, found.detail) == (Outcome.BROKEN, "it is not ready in time")

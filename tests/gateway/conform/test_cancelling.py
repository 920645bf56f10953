"""What is told of an engine's load, and of one that goes on working for nobody."""

from __future__ import annotations

import asyncio

import pytest

from backends.base import Backend, BackendError, Cause, Reply, Stage
from backends.load import Load
from backends.readiness import Readiness
from gateway.conform import cancelling
from gateway.conform.asking import Target
from gateway.conform.cancelling import DEPARTURES, leave
from gateway.conform.finding import Outcome


class Engine(Backend):
    """Streams for ever; works on after its client has left for as long as `deaf` says."""

    addresses = ("here",)

    def __init__(self, deaf: float = 0.0, tells: bool = True) -> None:
        self._deaf = deaf
        self._tells = tells
        self._running = 0

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def probe(self, address):
        return Readiness(True)

    def load(self, address):
        return Load(self._running, 0) if self._tells else None

    async def send(self, address, request):
        self._running += 1
        if not request.stream:
            try:
                await asyncio.sleep(30)
            finally:
                self._free()
        return Reply(200, (), _Endless(self._free))

    def _free(self):
        asyncio.get_running_loop().call_later(self._deaf, self._done)

    def _done(self):
        self._running = 0


class _Endless:
    def __init__(self, left) -> None:
        self._left = left

    def __aiter__(self):
        return self

    async def __anext__(self):
        return b"data: {}\n\n"

    async def aclose(self):
        self._left()


def target(backend):
    return Target(name="t", backend=backend, address=backend.addresses[0], model="m")


@pytest.mark.parametrize("name", DEPARTURES)
async def test_one_that_stops_is_free(name):
    found = await leave(target(Engine()), name)
    assert found.outcome is Outcome.KEPT
    assert found.detail.startswith("free after ")


@pytest.mark.parametrize("name", DEPARTURES)
async def test_one_that_works_on_for_nobody_has_broken_its_promise(name, monkeypatch):
    monkeypatch.setattr(cancelling, "FREE_WITHIN", 0.05)
    found = await leave(target(Engine(deaf=1.0)), name)
    assert found.outcome is Outcome.BROKEN
    assert "still at work" in found.detail


async def test_of_one_that_tells_no_load_nothing_can_be_said():
    found = await leave(target(Engine(tells=False)), "cancel: stream")
    assert found.outcome is Outcome.UNCLEAR


class GoneDumb(Engine):
    """Says how busy it is until `once` something happens to it."""

    def __init__(self, once) -> None:
        super().__init__()
        self._once = once
        self._dumb = False

    def load(self, address):
        return None if self._dumb else super().load(address)

    async def send(self, address, request):
        self._dumb |= self._once == "asked"
        return await super().send(address, request)

    def _free(self):
        self._dumb |= self._once == "left"
        super()._free()


@pytest.mark.parametrize("name", DEPARTURES)
async def test_one_that_says_nothing_any_more_is_not_taken_for_free(name, monkeypatch):
    monkeypatch.setattr(cancelling, "FREE_WITHIN", 0.05)
    found = await leave(target(GoneDumb(once="left")), name)
    assert found.outcome is Outcome.BROKEN
    assert "since the client has left, it has not said" in found.detail


@pytest.mark.parametrize("name", DEPARTURES)
async def test_one_that_says_nothing_once_it_works_is_not_waited_for_long(name, monkeypatch):
    monkeypatch.setattr(cancelling, "FREE_WITHIN", 0.05)
    found = await leave(target(GoneDumb(once="asked")), name)
    assert found.outcome is Outcome.UNCLEAR
    assert "it has not said" in found.detail


class Hesitant(Engine):
    """Says every other time how busy it is."""

    turn = True

    def load(self, address):
        self.turn = not self.turn
        return None if self.turn else super().load(address)


@pytest.mark.parametrize("name", DEPARTURES)
async def test_one_that_misses_a_look_is_looked_at_again(name):
    assert (await leave(target(Hesitant()), name)).outcome is Outcome.KEPT


class NotComing(Engine):
    def readying(self, address):
        return self._come()

    async def _come(self):
        raise BackendError(Stage.CONNECT, Cause.REFUSED, "no room in memory")


async def test_one_that_does_not_wake_up_shows_nothing():
    found = await leave(target(NotComing()), "cancel: stream")
    assert (found.outcome, found.detail) == (Outcome.UNCLEAR, "no room in memory")

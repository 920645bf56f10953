"""Whatever goes wrong is part of the answer."""

from __future__ import annotations

import asyncio

import pytest

from backends.base import BackendError, Cause, Endpoint, RequestRefused, Stage
from backends.options import OpenAIOptions
from gateway.conform.asking import Target, ask
from gateway.conform.probes import chat
from tests.support.upstream import CHAT, scripted

CLOSED = BackendError(Stage.SENT, Cause.PROTOCOL, "closed")


class Failing:
    """Fails in these ways, one after the other, and then for ever in the last one."""

    def __init__(self, *errors):
        self._errors = list(errors)
        self.asked = 0

    def readying(self, address):
        return None

    async def send(self, address, request):
        self.asked += 1
        error = self._errors.pop(0) if len(self._errors) > 1 else self._errors[0]
        if error is None:
            await asyncio.sleep(30)
        raise error


def target(backend, address="here"):
    return Target(name="t", backend=backend, address=address, model="m")


async def test_an_answer():
    async with scripted(CHAT) as engine:
        backend = OpenAIOptions(replicas=(engine.url,)).open("b")
        answer = await ask(target(backend, engine.url), Endpoint.CHAT, chat())
        await backend.stop()
    assert answer.ok
    assert answer.json()["choices"]


async def test_a_refusal_says_why_and_where():
    refused = RequestRefused(400, "too long", param="messages", code="context_length_exceeded")
    answer = await ask(target(Failing(refused)), Endpoint.CHAT, chat())
    assert answer.refused
    said = answer.error
    assert (said.message, said.param, said.code) == ("too long", "messages", refused.code)


async def test_a_connection_that_closed_while_it_was_idle_is_tried_again_once():
    refused = RequestRefused(404, "no")
    assert (await ask(target(Failing(CLOSED, refused)), Endpoint.CHAT, chat())).refused
    backend = Failing(CLOSED)
    answer = await ask(target(backend), Endpoint.CHAT, chat())
    assert (backend.asked, answer.status, answer.told()) == (2, 0, "sent: closed")


@pytest.mark.parametrize(
    "error",
    [
        BackendError(Stage.CONNECT, Cause.REFUSED, "down"),
        BackendError(Stage.SENT, Cause.ENGINE, "broken"),
    ],
)
async def test_any_other_failure_is_one(error):
    backend = Failing(error)
    answer = await ask(target(backend), Endpoint.CHAT, chat())
    assert (backend.asked, answer.ok, answer.refused) == (1, False, False)
    assert error.message in answer.told()


async def test_every_wait_ends():
    answer = await ask(target(Failing(None)), Endpoint.CHAT, chat(), timeout=0.01)
    assert answer.failure == "no whole answer within 0.01 s"


class Asleep(Failing):
    """Has to be woken before each request, and takes its time for that."""

    def __init__(self, wakes=True):
        super().__init__(RequestRefused(404, "no"))
        self._wakes = wakes
        self.awake = False

    def readying(self, address):
        return None if self.awake else self._wake()

    async def _wake(self):
        await asyncio.sleep(0.05)
        if not self._wakes:
            raise BackendError(Stage.CONNECT, Cause.REFUSED, "no room in memory")
        self.awake = True

    async def send(self, address, request):
        assert self.awake
        self.awake = False
        return await super().send(address, request)


async def test_one_that_sleeps_is_woken_each_time_and_that_is_not_the_answers_time():
    engine = target(Asleep())
    for _ in range(2):
        assert (await ask(engine, Endpoint.CHAT, chat(), timeout=0.02)).status == 404


async def test_why_it_does_not_wake_up_is_part_of_the_answer():
    backend = Asleep(wakes=False)
    answer = await ask(target(backend), Endpoint.CHAT, chat())
    assert (backend.asked, answer.status, answer.failure) == (0, 0, "connect: no room in memory")

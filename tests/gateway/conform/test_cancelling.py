"""What is told of an engine's load, and of one that goes on working for nobody."""

from __future__ import annotations

import asyncio

import pytest

from backends.base import Backend, Load, Readiness, Reply
from backends.openai_http import OpenAIHttpBackend
from backends.options import OpenAIOptions
from gateway.conform import cancelling
from gateway.conform.asking import Target
from gateway.conform.cancelling import DEPARTURES, busy, leave
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


METRICS = (
    b"# TYPE vllm:num_requests_running gauge\n"
    b'vllm:num_requests_running{engine="0",model_name="m"} 2.0\n'
    b'vllm:num_requests_waiting{engine="0",model_name="m"} 1.0\n'
    b'vllm:num_requests_waiting_by_reason{reason="x"} 9.0\n'
    b"llamacpp:requests_processing 1\n"
    b"llamacpp:requests_deferred 0\n"
)


class Told(OpenAIHttpBackend):
    """An engine over HTTP whose `/metrics` say this."""

    def __init__(self, status, body) -> None:
        super().__init__("b", OpenAIOptions(replicas=("http://127.0.0.1:1",)))
        self._said = status, body

    async def get(self, address, path):
        assert path == "/metrics"
        return self._said


async def test_load_is_read_from_the_engines_own_metrics():
    assert await busy(Told(200, METRICS), "http://127.0.0.1:1") == 4


@pytest.mark.parametrize(
    "said", [(404, METRICS), (200, b"{}"), (200, b"vllm:num_requests_running_x 1")]
)
async def test_an_engine_without_metrics_tells_nothing(said):
    assert await busy(Told(*said), "http://127.0.0.1:1") is None


async def test_one_that_cannot_be_reached_tells_nothing():
    address = "http://127.0.0.1:1"
    backend = OpenAIHttpBackend("b", OpenAIOptions(replicas=(address,)))
    assert await busy(backend, address) is None

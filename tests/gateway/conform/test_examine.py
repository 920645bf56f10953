"""Which checks a replica gets, and what they make of a model of another kind."""

from __future__ import annotations

import json

import pytest

from backends.base import Backend, Endpoint, Readiness, Reply, RequestRefused
from backends.capabilities import EVERYTHING, Capability
from gateway.conform.asking import Target
from gateway.conform.examine import examine, until_ready
from gateway.conform.finding import Outcome


class Embedder(Backend):
    """A server whose model embeds, and does nothing else."""

    addresses = ("here",)
    capabilities = EVERYTHING
    conditional = frozenset({Capability.EMBEDDINGS})

    def __init__(self, *ready: bool) -> None:
        self._ready = list(ready)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def probe(self, address):
        return Readiness(self._ready.pop(0) if self._ready else True, "loading")

    async def send(self, address, request):
        if request.endpoint is not Endpoint.EMBEDDINGS:
            raise RequestRefused(404, "Not Found")
        asked = json.loads(request.body)["input"]
        data = [{"index": at, "embedding": [1.0, len(text)]} for at, text in enumerate(asked)]
        return Reply(200, (), _Body(json.dumps({"data": data}).encode()))


class _Body:
    def __init__(self, body):
        self._body = body

    def __aiter__(self):
        return self

    async def __anext__(self):
        body, self._body = self._body, b""
        if not body:
            raise StopAsyncIteration
        return body

    async def aclose(self): ...


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


@pytest.mark.parametrize("within", [0, 0.3])
async def test_but_not_for_ever(within):
    found = await until_ready(target(Embedder(*[False] * 99)), within)
    assert (found.outcome, found.detail) == (Outcome.BROKEN, "loading")

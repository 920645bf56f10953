"""Which checks a replica gets, and what they make of a model of another kind."""

from __future__ import annotations

import pytest

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


@pytest.mark.parametrize("within", [0, 0.3])
async def test_but_not_for_ever(within):
    found = await until_ready(target(Embedder(*[False] * 99)), within)
    assert (found.outcome, found.detail) == (Outcome.BROKEN, "loading")

"""One bad answer is a broken promise, and not the end of the command."""

from __future__ import annotations

import pytest

from gateway.conform.asking import Target
from gateway.conform.finding import Outcome
from gateway.conform.promises import EMBEDS, hold
from tests.support.embedder import Embedder


async def held(backend):
    return await hold(Target(name="t", backend=backend, address="here", model="m"), EMBEDS)


async def test_an_embedding_for_each_text():
    assert (await held(Embedder())).outcome is Outcome.KEPT


@pytest.mark.parametrize(
    "vectors",
    [
        lambda texts: [[0.0, 0.0] for _ in texts],
        lambda texts: [[1.0, 2.0] for _ in (*texts, "one more")],
        lambda texts: [[1.0] * len(texts) for _ in texts],
        lambda texts: [[] for _ in texts],
        lambda texts: [["a"] for _ in texts],
        lambda texts: [[1e200, 10**400] for _ in texts],
    ],
    ids=["null", "one too many", "other lengths", "empty", "text", "too large"],
)
async def test_a_bad_embedding_breaks_the_promise(vectors):
    found = await held(Embedder(vectors=vectors))
    assert found.outcome is Outcome.BROKEN
    assert found.detail

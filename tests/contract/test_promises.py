"""What every engine has to keep: the checks of `gateway conform`, on each of them."""

from __future__ import annotations

import pytest

from backends.capabilities import Capability
from gateway.conform.cancelling import DEPARTURES, leave
from gateway.conform.finding import Outcome
from gateway.conform.promises import EMBEDS, PROMISES, hold

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("promise", PROMISES)
async def test_it_is_kept(target, promise):
    found = await hold(target, promise)
    if promise == EMBEDS and Capability.EMBEDDINGS in target.backend.conditional:
        assert found.outcome is Outcome.UNCLEAR, found  # these servers are started without them
    else:
        assert found.outcome is Outcome.KEPT, found


@pytest.mark.parametrize("departure", DEPARTURES)
async def test_a_client_that_leaves_frees_the_engine(target, departure):
    found = await leave(target, departure)
    assert found.outcome is Outcome.KEPT, found

"""What every engine tells of its load, for policies that go by it."""

from __future__ import annotations

import asyncio

import pytest

from backends.base import Endpoint, Request
from tests.contract.conftest import LLAMA_SERVER

pytestmark = pytest.mark.asyncio(loop_scope="module")

COUNT = (
    b'{"model": "tiny-tale", "stream": true, "max_tokens": 1500, "ignore_eos": true,'
    b' "messages": [{"role": "user", "content": "Count from 1 to 1000."}]}'
)


async def told(target, running):
    """What it says once it says that it works on so many; at once for most, a second for some."""
    async with asyncio.timeout(20):
        while True:
            demand = await target.backend.demand(target.address)
            assert demand is not None
            if (demand.running > 0) is running:
                return demand
            await asyncio.sleep(0.02)


async def test_it_tells_what_it_works_on_and_how_full_its_cache_is(target, engine):
    idle = await told(target, False)
    request = Request(endpoint=Endpoint.CHAT, body=COUNT, stream=True)
    reply = await target.backend.send(target.address, request)
    busy = await told(target, True)
    await reply.body.aclose()
    await told(target, False)
    assert (idle.waiting, busy.waiting) == (0, 0)
    if engine == LLAMA_SERVER:
        assert busy.kv_usage is None  # it does not say
    else:
        assert 0 <= idle.kv_usage < busy.kv_usage <= 1

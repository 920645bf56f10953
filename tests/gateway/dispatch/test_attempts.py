from __future__ import annotations

import asyncio

from tests.support.inprocess import routing, serving
from tests.support.upstream import CHAT, failing, scripted


async def test_a_client_that_leaves_while_it_waits_has_caused_no_retry(tmp_path):
    slow = {"retry": {"backoff": "60s", "max_backoff": "60s"}}
    budget = {"retry_budget": {"percent": 0, "min_per_second": 0.1, "window": "10s"}}
    async with (
        scripted(failing(500), failing(500), CHAT) as engine,
        serving(tmp_path, routing(engine, model=slow, **budget)) as gateway,
    ):
        left = gateway.gateway._attempts._budget
        leaving = asyncio.create_task(gateway.chat())
        async with asyncio.timeout(5):
            while left.balance:
                await asyncio.sleep(0.005)
            leaving.cancel()
            while not left.balance:
                await asyncio.sleep(0.005)
    assert left.balance == 1


async def test_a_policy_hears_nothing_of_a_retry_that_is_refused(tmp_path):
    budget = {"retry_budget": {"percent": 0, "min_per_second": 0}}
    async with (
        scripted(failing(500)) as one,
        scripted(failing(500)) as two,
        scripted(failing(500)) as three,
        serving(tmp_path, routing(one, two, three, **budget)) as gateway,
    ):
        for _ in range(6):
            await gateway.chat()
        assert [len(engine.seen) for engine in (one, two, three)] == [2, 2, 2]

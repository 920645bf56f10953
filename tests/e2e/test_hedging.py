"""SIGSTOP of one of two llama-servers: who is late is asked beside, and nobody waits for it."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.children import wait_until

pytestmark = pytest.mark.slow

ASKED = {
    "model": "tiny-tale",
    "messages": [{"role": "user", "content": "Count from 1 to 30."}],
    "temperature": 0,
    "max_tokens": 100,
}
MANY = 12


def over(start_gateway, servers, hedge):
    """A gateway that asks each of `servers` in turn, and would wait for it for a minute."""
    urls = ", ".join(f"'{server.url}'" for server in servers)
    gateway = start_gateway(
        f"backends: {{pair: {{use: llama_server, model: tiny-tale, replicas: [{urls}]}}}}\n"
        "models:\n"
        f"  tiny-tale: {{backend: pair, balance: round_robin, hedge: {hedge}}}\n"
    )
    gateway.wait_model("tiny-tale")
    wait_until(lambda: gateway.metric("gateway_replica_ready") == 2, 10, "both are ready")
    return gateway


async def whole(client):
    """One answer, in one piece."""
    return (await client.chat.completions.create(**ASKED)).choices[0].message.content


async def streamed(client):
    """One answer, piece by piece."""
    stream = await client.chat.completions.create(**ASKED, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


def is_let_go(server):
    """Whether none of its slots works, once it goes on."""
    server.thaw()
    wait_until(lambda: server.busy_slots() == 0, 10, "it has dropped who was overtaken")
    return True


@pytest.mark.parametrize("ask", [whole, streamed])
async def test_the_first_content_wins_and_the_loser_is_let_go(start_gateway, two_llamas, ask):
    late, _ = two_llamas
    gateway = over(start_gateway, two_llamas, "{after: 300ms, max_percent: 100}")
    async with gateway.async_openai(max_retries=0) as client:
        right = await ask(client)
        late.freeze()
        answers = await asyncio.gather(*(ask(client) for _ in range(MANY)))
        assert await asyncio.to_thread(is_let_go, late)
    assert set(answers) == {right}
    won = gateway.metric("gateway_hedges_total", gateway_hedge_result="won")
    assert won >= MANY / 2 - 1  # a health check may take it out of the way before the last
    assert gateway.metric("gateway_attempts_total", gateway_attempt_cause="overtaken") >= won
    assert gateway.outstanding() == 0


async def test_there_are_no_more_than_their_share(start_gateway, two_llamas):
    late, _ = two_llamas
    gateway = over(start_gateway, two_llamas, "{after: 100ms, max_percent: 10}")
    async with gateway.async_openai(max_retries=0, timeout=60) as client:
        for _ in range(20):
            await whole(client)
        late.freeze()
        asking = [asyncio.create_task(whole(client)) for _ in range(20)]
        wanted = 4
        hedges = "gateway_hedges_total"
        await asyncio.to_thread(
            wait_until, lambda: gateway.metric(hedges) == wanted, 10, "their share is spent"
        )
        await asyncio.sleep(0.3)  # for those that are late by now, too
        late.thaw()
        await asyncio.gather(*asking)
    assert gateway.metric(hedges) == wanted
    assert gateway.outstanding() == 0

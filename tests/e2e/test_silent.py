"""SIGSTOP of llama-servers and of an isolated engine: who has nothing yet is asked elsewhere, and
who comes later is not asked there first. An engine that is only busy keeps what it has."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.children import wait_until
from tests.support.engines import MODEL_DIR

pytestmark = pytest.mark.slow

ASKED = {"temperature": 0, "max_tokens": 40}
HURRY = 30.0
"""Seconds that bound a test which has failed; by its timeouts an answer would take a minute."""


def house(start_gateway, replicas, model=""):
    """A gateway with the default timeouts: `tale` is on `replicas`, and falls back as `model` says
    to `spare`, MLX in this process."""
    urls = ", ".join(f"'{server.url}'" for server in replicas)
    gateway = start_gateway(
        "backends:\n"
        f"  pair: {{use: llama_server, model: tiny-tale, replicas: [{urls}]}}\n"
        f"  here: {{use: mlx, model: {MODEL_DIR}}}\n"
        "models:\n"
        f"  tale: {{backend: pair, balance: round_robin{model}}}\n"
        "  spare: {backend: here}\n"
    )
    gateway.wait_model("tale")
    gateway.wait_model("spare")
    wait_until(
        lambda: gateway.metric("gateway_replica_ready") == len(replicas) + 1, 10, "all are ready"
    )
    return gateway


async def ask(client, number, *, streamed, prompt="Tell me a story.", model="tale"):
    """Who answered, by the answer itself, and what."""
    messages = [{"role": "user", "content": f"{number}: {prompt}"}]
    if not streamed:
        whole = await client.chat.completions.create(model=model, messages=messages, **ASKED)
        return whole.model, whole.choices[0].message.content
    stream = await client.chat.completions.create(
        model=model, messages=messages, stream=True, **ASKED
    )
    chunks = [chunk async for chunk in stream]
    return chunks[0].model, "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def given_up(gateway):
    return gateway.metric("gateway_attempts_total", gateway_attempt_cause="replica_silent")


async def test_who_waits_for_one_that_is_stopped_is_answered_by_the_other(
    start_gateway, two_llamas
):
    gateway = house(start_gateway, two_llamas)
    async with gateway.async_openai(max_retries=0, timeout=HURRY) as client:
        right = [await ask(client, n, streamed=bool(n % 2)) for n in range(4)]
        two_llamas[0].freeze()
        answers = await asyncio.gather(
            *(ask(client, n, streamed=streamed) for n in range(4) for streamed in (True, False))
        )
    assert answers == [one for one in right for _ in range(2)]
    assert given_up(gateway) >= 3  # one of them may have come after the first health check
    assert gateway.outstanding() == 0


async def test_where_all_are_stopped_it_is_the_fallback_and_then_at_once(start_gateway, two_llamas):
    gateway = house(start_gateway, two_llamas, ", fallback: [spare]")
    async with gateway.async_openai(max_retries=0, timeout=HURRY) as client:
        for server in two_llamas:
            server.freeze()
        first = await asyncio.gather(*(ask(client, n, streamed=n < 2) for n in range(4)))
        await asyncio.to_thread(gateway.wait_model, "tale", "ready through spare")
        before = gateway.metric("gateway_attempts_total")
        then = [await ask(client, n, streamed=n < 2) for n in range(4)]
        made = gateway.metric("gateway_attempts_total") - before
        for server in two_llamas:
            server.thaw()
        gateway.wait_model("tale", "ready")
        wait_until(lambda: gateway.ready()[1]["models"]["tale"] == "ready", 20, "it is back")
        last = await ask(client, 5, streamed=True)
    assert {model for model, _ in first + then} == {"spare"}
    assert made == 4, "nobody was asked in vain"
    assert gateway.metric("gateway_passed_over_total", gateway_variant="default") >= 4
    assert last[0] == "tale"


async def test_where_nobody_else_is_there_it_is_waited_for(start_gateway, start_llama_server):
    server = start_llama_server()
    gateway = house(start_gateway, [server])
    async with gateway.async_openai(max_retries=0, timeout=60) as client:
        server.freeze()
        asking = [asyncio.create_task(ask(client, n, streamed=n < 1)) for n in range(2)]
        await asyncio.sleep(12)  # four health checks and more
        assert not any(one.done() for one in asking)
        server.thaw()
        assert {model for model, _ in await asyncio.gather(*asking)} == {"tale"}
    assert given_up(gateway) == 0


async def test_an_engine_that_is_busy_keeps_what_waits_there(start_gateway, start_llama_server):
    """One slot, and more requests than the server has threads: its health check finds none free,
    and no token comes for as long as a prompt takes."""
    few = ("--parallel", "1", "--threads-http", "5", "--ctx-size", "32768")
    server = start_llama_server(*few)
    gateway = house(start_gateway, [server], ", fallback: [spare]")
    long = "story dog " * 1900
    async with gateway.async_openai(max_retries=0, timeout=120) as client:
        asking = [
            asyncio.create_task(ask(client, n, streamed=bool(n % 2), prompt=long))
            for n in range(12)
        ]
        answers = await asyncio.gather(*asking)
    assert {model for model, _ in answers} == {"tale"}
    assert given_up(gateway) == 0

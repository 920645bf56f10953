"""Conversations over two llama-servers with prompt caches: where they go, and what that spares."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict

import pytest
from openai import AsyncOpenAI

from tests.support.children import wait_until

CHATS = 7
"""An odd number: turns of one chat go to either replica in turn where nobody looks."""
TURNS = ("Tell me a story about Mia.", "What is 3 + 4?", "What is the capital of Peru?")


@pytest.fixture
def gateway(start_gateway, two_llamas):
    first, second = two_llamas
    gateway = start_gateway(
        f"backends: {{llama: {{use: llama_server, replicas: ['{first.url}', '{second.url}']}}}}\n"
        "models:\n"
        "  blind: {backend: llama, balance: round_robin}\n"
        "  seeing: {backend: llama}\n"
        "  by-user: {backend: llama, balance: session, sticky: user}\n"
    )
    for model in ("blind", "seeing", "by-user"):
        gateway.wait_model(model)
    wait_until(lambda: len(ready(gateway)) == 2, 20, "one of the two is not ready")
    return gateway


def ready(gateway):
    names = ("gateway_replica_ready",)
    page = gateway.request("GET", "/metrics")[2].decode()
    return [line for line in page.splitlines() if line.startswith(names) and line.endswith(" 1.0")]


async def talk(client, model):
    """All turns of all chats, one after the other; where each went, and what was cached of it."""
    chats = [
        [{"role": "user", "content": f"{model} {chat}: " + f"{chat} is a number. " * 100}]
        for chat in range(CHATS)
    ]
    homes, asked, cached = defaultdict(list), 0, 0
    for number, question in enumerate(TURNS):
        for at, chat in enumerate(chats):
            chat.append({"role": "user", "content": question})
            raw = await client.chat.completions.with_raw_response.create(
                model=model, messages=chat, max_tokens=8, temperature=0, user=f"user-{at}"
            )
            answer = raw.parse()
            chat.append({"role": "assistant", "content": answer.choices[0].message.content})
            homes[at].append(raw.headers["x-gateway-replica"])
            if number:
                asked += answer.usage.prompt_tokens
                cached += answer.usage.prompt_tokens_details.cached_tokens
    return [set(replicas) for replicas in homes.values()], cached / asked


async def test_chats_stay_where_they_are_computed(gateway):
    async with gateway.async_openai() as client:
        blind_homes, blind = await talk(client, "blind")
        homes, cached = await talk(client, "seeing")
    assert all(len(replicas) == 2 for replicas in blind_homes)
    assert all(len(replicas) == 1 for replicas in homes)
    assert len(set.union(*homes)) == 2, "one of the two had nothing to do"
    assert cached > 0.9
    assert cached > 1.5 * blind
    told = gateway.metric("gateway_cached_input_tokens_total", gen_ai_request_model="seeing")
    assert told > 1.5 * gateway.metric(
        "gateway_cached_input_tokens_total", gen_ai_request_model="blind"
    )
    known = gateway.metric("gateway_replica_known_prompt_tokens_total")
    assert known > 0.2 * gateway.metric("gateway_replica_prompt_tokens_total")


async def test_sessions_stay_by_their_user(gateway):
    async with gateway.async_openai() as client:
        homes, cached = await talk(client, "by-user")
    assert all(len(replicas) == 1 for replicas in homes)
    assert cached > 0.9


async def test_engines_are_asked_and_one_that_is_full_is_left_alone(gateway, two_llamas):
    wait_until(lambda: reported(gateway, "running") == [0, 0], 20, "nobody has asked the engines")
    talk = [{"role": "user", "content": "Mia had a number. " * 100}]
    async with gateway.async_openai() as client, contextlib.AsyncExitStack() as others:
        home = await replica_of(client, talk)
        assert await replica_of(client, talk) == home
        (busy,) = [one for one in two_llamas if home.endswith(f":{one.port}")]
        strangers = AsyncOpenAI(base_url=f"{busy.url}/v1", api_key="none", max_retries=0)
        await others.enter_async_context(strangers)
        asking = [asyncio.create_task(occupy(strangers)) for _ in range(24)]
        full = "it does not tell that it is full"
        await asyncio.to_thread(wait_until, lambda: saturated(gateway, home), 20, full)
        assert await replica_of(client, talk) != home
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    wait_until(lambda: reported(gateway, "running") == [0, 0], 20, "they do not tell of its end")
    assert not saturated(gateway, home)


async def replica_of(client, messages):
    raw = await client.chat.completions.with_raw_response.create(
        model="seeing", messages=messages, max_tokens=1
    )
    return raw.headers["x-gateway-replica"]


async def occupy(client):
    """Some seconds of work for an engine, whoever else asks it."""
    stream = await client.chat.completions.create(
        model="any",
        messages=[{"role": "user", "content": "Count from 1 to 1000."}],
        max_tokens=3900,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    async for _ in stream:
        pass


def saturated(gateway, replica):
    return gateway.metric("gateway_replica_saturated", gateway_replica=replica) == 1


def reported(gateway, what):
    """What the replicas have said lately."""
    page = gateway.request("GET", "/metrics")[2].decode().splitlines()
    name = f"gateway_replica_reported_{what}{{"
    return [float(line.rsplit(" ", 1)[1]) for line in page if line.startswith(name)]

"""A canary beside a stable variant, each on a llama-server of its own."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

USERS = 400
SHARE = 0.05
ASK = [{"role": "user", "content": "What is 3 + 4?"}]


@pytest.fixture
def gateway(start_gateway, two_llamas):
    stable, canary = two_llamas
    gateway = start_gateway(
        "backends:\n"
        f"  first: {{use: llama_server, replicas: ['{stable.url}']}}\n"
        f"  second: {{use: llama_server, replicas: ['{canary.url}']}}\n"
        "models:\n"
        "  assistant:\n"
        "    sticky: user\n"
        "    variants:\n"
        "      stable: {backend: first, weight: 95}\n"
        "      canary: {backend: second, weight: 5}\n"
        "    rules:\n"
        "      - {when: {headers: {x-canary: '1'}}, variant: canary}\n"
    )
    gateway.wait_model("assistant")
    return gateway


async def test_the_split_is_as_weighted_and_stays(gateway, two_llamas):
    stable, canary = two_llamas
    async with gateway.async_openai() as client:
        free = asyncio.Semaphore(16)

        async def variant_of(number: int) -> str:
            async with free:
                raw = await client.chat.completions.with_raw_response.create(
                    model="assistant", messages=ASK, max_tokens=1, user=f"user-{number}"
                )
            variant = raw.headers["x-gateway-variant"]
            port = canary.port if variant == "canary" else stable.port
            assert raw.headers["x-gateway-replica"].endswith(f":{port}")
            return variant

        first = await asyncio.gather(*map(variant_of, range(USERS)))
        second = await asyncio.gather(*map(variant_of, range(USERS)))
    assert first == second
    # 20 are expected; the binomial's standard deviation is 4.4. The hash is not random, so this
    # either always holds or never does.
    assert 7 <= Counter(first)["canary"] <= 33


async def test_a_header_forces_the_canary(gateway):
    async with gateway.async_openai() as client:
        for number in range(10):
            raw = await client.chat.completions.with_raw_response.create(
                model="assistant",
                messages=ASK,
                max_tokens=1,
                user=f"user-{number}",
                extra_headers={"x-canary": "1"},
            )
            assert raw.headers["x-gateway-variant"] == "canary"


async def test_a_stream_tells_its_variant_too(gateway):
    async with gateway.async_openai() as client:
        stream = await client.chat.completions.create(
            model="assistant",
            messages=ASK,
            max_tokens=1,
            stream=True,
            extra_headers={"x-canary": "1"},
        )
        assert stream.response.headers["x-gateway-variant"] == "canary"
        assert {chunk.model async for chunk in stream} == {"assistant"}

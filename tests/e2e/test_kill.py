"""kill -9 of one of two llama-servers under load: no answer is lost, whether begun or not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest

from tests.support.children import wait_until

CLIENTS = 32
REQUESTS = 320
KILL_AFTER = 80
"""Answers that must have come before the kill, so that it falls into full load."""
QUESTIONS = ["Count from 1 to 100.", "Tell me a story about Mia.", "What is 3 + 4?"]


@pytest.fixture
def pair(start_gateway, two_llamas):
    """A gateway over two llama-servers, and those."""
    urls = ", ".join(f"'{server.url}'" for server in two_llamas)
    gateway = start_gateway(
        f"backends: {{pair: {{use: llama_server, replicas: [{urls}]}}}}\n"
        "models: {tiny-tale: {backend: pair}}\n"
    )
    gateway.wait_model("tiny-tale")
    wait_until(lambda: gateway.metric("gateway_replica_ready") == 2, 10, "both are ready")
    return gateway, two_llamas


def asked(at: int, **fields: Any) -> dict[str, Any]:
    message = {"role": "user", "content": QUESTIONS[at % len(QUESTIONS)]}
    return {"model": "tiny-tale", "messages": [message], "temperature": 0, **fields}


async def undisturbed(client: openai.AsyncOpenAI) -> list[str]:
    """What each question is answered with when nothing happens."""
    answers = [await client.chat.completions.create(**asked(at)) for at in range(len(QUESTIONS))]
    return [answer.choices[0].message.content or "" for answer in answers]


async def under_load(one: Callable[[int], Awaitable[str]], kill: Callable[[], None]) -> list[str]:
    """The outcome of each request; `kill` happens in the middle."""
    outcomes: list[str] = []
    numbers = iter(range(REQUESTS))

    async def client() -> None:
        for number in numbers:
            outcomes.append(await one(number))
            if len(outcomes) == KILL_AFTER:
                kill()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return outcomes


async def test_answers_that_do_not_stream(pair, record_property):
    gateway, (victim, _) = pair
    async with gateway.async_openai() as client:
        expected = await undisturbed(client)

        async def one(number: int) -> str:
            try:
                answer = await client.chat.completions.create(**asked(number))
            except openai.OpenAIError as error:
                return f"lost: {error!r}"
            right = expected[number % len(expected)]
            return "whole" if answer.choices[0].message.content == right else f"wrong: {answer}"

        outcomes = Counter(await under_load(one, victim.kill))
    assert outcomes == {"whole": REQUESTS}
    retried = gateway.metric("gateway_attempts_total") - REQUESTS - len(QUESTIONS)
    record_property("retries", retried)
    print(f"{retried:g} retries")
    assert retried > 0, "nothing was in flight on the server that was killed"
    assert gateway.metric("gateway_attempts_active") == 0
    assert gateway.outstanding() == 0


async def test_streams(pair, record_property):
    gateway, (victim, _) = pair
    async with gateway.async_openai() as client:
        expected = await undisturbed(client)

        async def one(number: int) -> str:
            right, text, reason = expected[number % len(expected)], "", None
            try:
                async for chunk in await client.chat.completions.create(
                    **asked(number), stream=True
                ):
                    for choice in chunk.choices:
                        text += choice.delta.content or ""
                        reason = choice.finish_reason or reason
            except openai.APIStatusError as error:
                return f"refused before it began: {error!r}"
            except openai.APIConnectionError as error:
                return f"cut without a word: {error!r}"
            except openai.APIError as error:
                return f"broke off, and said so: {error!r}"
            if (text, reason) == (right, "stop"):
                return "whole"
            return f"ended as if it were whole: {text!r}, {reason}"

        outcomes = Counter(await under_load(one, victim.kill))
    record_property("outcomes", dict(outcomes))
    print(
        dict(outcomes), gateway.metric("gateway_failovers_total"), "had begun where it was killed"
    )
    assert outcomes == {"whole": REQUESTS}
    assert gateway.outstanding() == 0


async def read_on(stream: Any, count: int = 1_000_000) -> None:
    """Read the next chunks of a stream that must not end."""
    for _ in range(count):
        chunk = await anext(stream)
        assert chunk.choices[0].finish_reason is None


async def test_streams_that_shall_not_go_on_are_told_that_they_broke(
    start_gateway, start_llama_server
):
    """Endless ones, so that all of them are in the middle, wherever the kill falls."""
    victim, survivor = start_llama_server("--context-shift"), start_llama_server("--context-shift")
    gateway = start_gateway(
        "backends:\n"
        f"  pair: {{use: llama_server, replicas: ['{victim.url}', '{survivor.url}']}}\n"
        "models: {tiny-tale: {backend: pair, failover: {attempts: 0}}}\n"
    )
    wait_until(lambda: gateway.metric("gateway_replica_ready") == 2, 10, "both are ready")
    endless = {"max_tokens": 1_000_000, "stream": True, "extra_body": {"ignore_eos": True}}

    async with gateway.async_openai() as client:
        streams = [await client.chat.completions.create(**asked(0), **endless) for _ in range(6)]
        for stream in streams:
            while not (await anext(stream)).choices[0].delta.content:
                pass
        victim.kill()
        hit = [
            stream
            for stream in streams
            if stream.response.headers["x-gateway-replica"].endswith(str(victim.port))
        ]
        assert len(hit) == 3, "the load was not shared evenly"
        for stream in hit:
            with pytest.raises(openai.APIError, match=str(victim.port)):
                await read_on(stream)
        for stream in streams:
            if stream not in hit:
                await read_on(stream, 200)
            await stream.close()
    wait_until(lambda: gateway.outstanding() == 0, 2, "an attempt is still counted")


async def test_a_server_that_comes_back_is_used_again(pair):
    gateway, (victim, _) = pair
    asked_of = "gateway_attempts_total"
    where = f"pair@127.0.0.1:{victim.port}"
    victim.kill()
    async with gateway.async_openai() as client:
        for number in range(6):
            await client.chat.completions.create(**asked(number))
        wait_until(
            lambda: gateway.metric("gateway_replica_ready", gateway_replica=where) == 0,
            10,
            "the gateway has not noticed",
        )
        before = gateway.metric(asked_of, gateway_replica=where)
        for number in range(6):
            await client.chat.completions.create(**asked(number))
        assert gateway.metric(asked_of, gateway_replica=where) == before
        victim.restart()
        wait_until(
            lambda: gateway.metric("gateway_replica_ready", gateway_replica=where) == 1,
            10,
            "the gateway has not noticed that it is back",
        )
        await asyncio.gather(
            *(client.chat.completions.create(**asked(number)) for number in range(16))
        )
    ok = {"gateway_replica": where, "gateway_attempt_cause": "ok"}
    assert gateway.metric(asked_of, **ok) > 0

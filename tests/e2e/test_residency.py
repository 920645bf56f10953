"""Engines that take turns in memory, and sleep until somebody asks."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.support.launched import (
    ANSWER,
    QUESTION,
    ask,
    engine_pids,
    gone,
    launched,
    one,
    read_some,
    status,
    text_of,
    wait_status,
)
from tests.support.voices import QUESTIONS, A, voice_of

pytestmark = [pytest.mark.engine, pytest.mark.slow]


def two(*, limit: str = "40MiB", patience: str = "") -> str:
    """Two engines of which only one fits."""
    launch = launched("memory: 30MiB")
    return (
        f"memory_limit: {limit}\n"
        f"backends:\n  a: {{use: llama_server, launch: {launch}}}\n"
        f"  b: {{use: llama_server, launch: {launch}}}\n"
        "models: {a: {backend: a}, b: {backend: b}}\n"
    )


def test_under_a_memory_limit_engines_take_turns_and_a_busy_one_stays(start, stream_of):
    gateway = start(two())
    assert (status(gateway, "a@0"), status(gateway, "b@0")) == ("ready", "asleep")
    assert gateway.ready()[1]["models"] == {"a": "ready", "b": "ready"}
    assert text_of(ask(gateway, "b")) == ANSWER
    assert (status(gateway, "a@0"), status(gateway, "b@0")) == ("asleep", "ready")

    stream = stream_of(gateway, "b")
    (pid,) = engine_pids(gateway)
    answers: list[str] = []
    waiting = threading.Thread(target=lambda: answers.append(text_of(ask(gateway, "a"))))
    waiting.start()
    waiting.join(1)
    read_some(stream, 50)
    assert engine_pids(gateway) == [pid], "an engine with a request in flight was stopped"
    assert not answers
    stream.close()
    waiting.join(20)
    assert answers == [ANSWER]
    assert (status(gateway, "a@0"), status(gateway, "b@0")) == ("ready", "asleep")


async def test_swapping_back_and_forth_under_load_loses_nothing(start):
    gateway = start(two())
    rounds = 4
    async with gateway.async_openai() as sdk:

        async def one(number: int) -> str:
            await asyncio.sleep(number * 0.02)
            answer = await sdk.chat.completions.create(
                model="ab"[number // 5 % 2], messages=QUESTION, temperature=0
            )
            return text_of(answer)

        for _ in range(rounds):  # each takes a swap at least: both are asked, and one is there
            assert set(await asyncio.gather(*(one(number) for number in range(20)))) == {ANSWER}
    # Of `rounds` swaps the first was b's first start.
    assert gateway.metric("gateway_engine_restarts_total") >= rounds - 1
    assert len(engine_pids(gateway)) == 1


def test_idle_unload_and_the_next_request_starts_it_again(start):
    gateway = start(one("idle_unload: 500ms"))
    (pid,) = engine_pids(gateway)
    wait_status(gateway, "local@0", "asleep")
    assert gone([pid])
    assert gateway.ready()[0] == 200
    assert text_of(ask(gateway)) == ANSWER
    assert status(gateway, "local@0") == "ready"


def test_the_request_that_wakes_an_engine_may_be_for_an_adapter(start):
    launch = launched("preload: false")
    gateway = start(
        f"backends: {{local: {{use: llama_server, adapters: {{v1: {A}}}, launch: {launch}}}}}\n"
        "models: {sql: {variants: {stable: {backend: local, adapter: v1}}}}\n"
    )
    assert status(gateway, "local@0") == "asleep"
    with gateway.openai() as client:
        answer = client.chat.completions.create(
            model="sql", messages=[{"role": "user", "content": QUESTIONS[0]}], temperature=0
        )
    assert voice_of(text_of(answer)) == "a"

"""SIGSTOP of one of two llama-servers: answers in one piece come from the other one, in time."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from tests.support.children import wait_until

pytestmark = pytest.mark.slow

ASKED = {
    "model": "tiny-tale",
    "messages": [{"role": "user", "content": "Count from 1 to 100."}],
    "temperature": 0,
    "max_tokens": 200,
}


def over(start_gateway, servers, use, timeouts):
    """A gateway over `servers`, asked as that kind of engine."""
    urls = ", ".join(f"'{server.url}'" for server in servers)
    gateway = start_gateway(
        f"backends: {{pair: {{use: {use}, model: tiny-tale, replicas: [{urls}]}}}}\n"
        "models:\n"
        f"  tiny-tale: {{backend: pair, balance: round_robin, timeouts: {timeouts}}}\n"
    )
    gateway.wait_model("tiny-tale")
    wait_until(lambda: gateway.metric("gateway_replica_ready") == 2, 10, "both are ready")
    return gateway


@pytest.mark.parametrize(
    ("use", "cause"), [("llama_server", "first_token_timeout"), ("openai", "idle_timeout")]
)
async def test_one_that_is_stopped_before_it_is_asked(start_gateway, two_llamas, use, cause):
    """Asked for a stream behind the scenes it has `first_token`; else `idle`, and health checks."""
    victim, _ = two_llamas
    gateway = over(start_gateway, two_llamas, use, "{first_token: 3s, idle: 3s, total: 60s}")
    async with gateway.async_openai() as client:
        right = (await client.chat.completions.create(**ASKED)).choices[0].message.content
        await client.chat.completions.create(**ASKED)
        victim.freeze()
        began = time.monotonic()
        answers = await asyncio.gather(*(client.chat.completions.create(**ASKED) for _ in range(4)))
        print(f"{use}: the last of 4 after {time.monotonic() - began:.1f} s")
    assert {answer.choices[0].message.content for answer in answers} == {right}
    assert gateway.metric("gateway_attempts_total", gateway_attempt_cause=cause) == 2
    assert gateway.outstanding() == 0


async def test_one_that_is_stopped_in_the_middle_of_an_answer(start_gateway, two_llamas):
    victim, _ = two_llamas
    gateway = over(
        start_gateway, two_llamas, "llama_server", "{first_token: 30s, idle: 2s, total: 60s}"
    )
    long = {**ASKED, "max_tokens": 3500, "extra_body": {"ignore_eos": True}}
    async with gateway.async_openai() as client:
        asking = [asyncio.create_task(client.chat.completions.create(**long)) for _ in range(2)]
        await asyncio.to_thread(wait_until, victim.busy_slots, 10, "it works")
        await asyncio.sleep(0.1)  # beyond the prompt
        victim.freeze()
        one, other = await asyncio.gather(*asking)
    assert one.choices[0].message.content == other.choices[0].message.content
    assert one.usage.completion_tokens == 3500
    assert gateway.metric("gateway_attempts_total", gateway_attempt_cause="idle_timeout") == 1
    assert gateway.outstanding() == 0


SAID = {"max_tokens": 20, "temperature": 0, "model": "tiny-tale"}
TURNS = [{"role": "user", "content": "Tell me a story about Mia."}]
DIALECTS = {
    "chat/completions": {"messages": TURNS, **SAID},
    "completions": {"prompt": "Once upon a time", **SAID},
    "messages": {"messages": TURNS, **SAID},
    "responses": {"input": TURNS, "max_output_tokens": 20, "temperature": 0, "model": "tiny-tale"},
}


async def test_in_every_dialect(start_gateway, two_llamas):
    victim, _ = two_llamas
    timeouts = "{first_token: 3s, idle: 30s, total: 60s}"
    gateway = over(start_gateway, two_llamas, "llama_server", timeouts)

    async def asked():
        """The texts of two answers in each dialect: each engine is asked for one."""
        return await asyncio.gather(
            *(
                asyncio.to_thread(gateway.request, "POST", f"/v1/{path}", body)
                for path, body in DIALECTS.items()
                for _ in range(2)
            )
        )

    before = await asked()
    victim.freeze()
    after = await asked()
    assert [status for status, _, _ in before + after] == [200] * 16
    texts = [[_text(body) for _, _, body in answers] for answers in (before, after)]
    assert texts[0] == texts[1]
    assert gateway.metric(
        "gateway_attempts_total", gateway_attempt_cause="first_token_timeout"
    ) == len(DIALECTS)


def _text(body):
    """What was said, without ids and times."""
    answer = json.loads(body)
    if "choices" in answer:
        choice = answer["choices"][0]
        return choice.get("text") or choice["message"]["content"]
    return (answer.get("content") or answer["output"][0]["content"])[0]["text"]


async def test_who_waits_for_a_slot_is_not_taken_for_lost(start_gateway, start_llama_server):
    """Twelve at one slot wait, all together, for several times the first token's time."""
    only = start_llama_server("--parallel", "1")
    gateway = start_gateway(
        f"backends: {{one: {{use: llama_server, model: tiny-tale, replicas: ['{only.url}']}}}}\n"
        "models:\n"
        "  tiny-tale: {backend: one, timeouts: {first_token: 1500ms, idle: 5s, total: 60s}}\n"
    )
    gateway.wait_model("tiny-tale")
    long = {**ASKED, "max_tokens": 1500, "extra_body": {"ignore_eos": True}}
    async with gateway.async_openai() as client:
        began = time.monotonic()
        answers = await asyncio.gather(*(client.chat.completions.create(**long) for _ in range(12)))
        print(f"12 answers after {time.monotonic() - began:.1f} s")
    assert {answer.usage.completion_tokens for answer in answers} == {1500}
    assert gateway.metric("gateway_attempts_total") == 12

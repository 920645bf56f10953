"""A gate before a real llama-server: who goes first, who shares with whom, who is sent away."""

from __future__ import annotations

import asyncio

import pytest
from openai import RateLimitError

from tests.support.children import wait_until

pytestmark = pytest.mark.slow

KEYS = {"greedy": "greedy-secret", "modest": "modest-secret", "batch": "batch-secret"}


@pytest.fixture
def engine(start_llama_server):
    """It is held still while requests come, so that they find the queue as the last one left it."""
    return start_llama_server()


@pytest.fixture
def gateway(start_gateway, engine):
    """One place, and six may wait for it."""
    running = start_gateway(
        f"backends: {{tale: {{use: llama_server, model: tiny-tale, "
        f"replicas: ['{engine.url}']}}}}\n"
        "models:\n"
        "  tiny-tale: {backend: tale, concurrency: 1, queue: {size: 6, timeout: 60s}}\n"
        "keys:\n"
        "  greedy: {value: greedy-secret, max_priority: high}\n"
        "  modest: {value: modest-secret, max_priority: high}\n"
        "  batch: {value: batch-secret, max_priority: low}\n"
    )
    running.wait_model("tiny-tale", key=KEYS["greedy"])
    return running


class Asking:
    """Requests that are sent one after the other, each when the last one has found its place."""

    def __init__(self, gateway, client):
        self._gateway = gateway
        self._client = client
        self._sent = 0
        self.order: list[str] = []
        self.refused: dict[str, str] = {}
        self.waits: list[int] = []

    async def ask(self, name, key, priority="normal", **headers):
        """Send one that is called `name`; its task, once it waits, is inside or was refused."""
        task = asyncio.create_task(self._answer(name, key, priority, headers))
        self._sent += 1
        await asyncio.to_thread(
            wait_until, lambda: self._seen() >= self._sent or task.done(), 10, f"{name} is there"
        )
        return task

    def _seen(self):
        waiting = self._gateway.metric("gateway_admission_waiting")
        return waiting + self._gateway.metric("gateway_admission_inside") + self._over

    @property
    def _over(self):
        return len(self.order) + len(self.refused)

    async def _answer(self, name, key, priority, headers):
        try:
            await self._client.with_options(api_key=KEYS[key]).chat.completions.create(
                model="tiny-tale",
                messages=[{"role": "user", "content": "Tell me a story."}],
                max_tokens=300,
                extra_body={"ignore_eos": True},
                extra_headers={"x-gateway-priority": priority, **headers},
            )
            self.order.append(name)
        except RateLimitError as error:
            self.refused[name] = error.code
            self.waits.append(int(error.response.headers["retry-after"]))


@pytest.fixture
async def asking(gateway):
    """Nothing yet."""
    async with gateway.async_openai(max_retries=0) as client:
        yield Asking(gateway, client)


async def test_keys_take_turns(asking, engine):
    engine.freeze()
    tasks = [await asking.ask("first", "greedy")]
    tasks += [await asking.ask(f"greedy {n}", "greedy") for n in range(4)]
    tasks += [await asking.ask(f"modest {n}", "modest") for n in range(2)]
    engine.thaw()
    await asyncio.gather(*tasks)
    assert asking.refused == {}
    assert {"modest 0", "modest 1"} <= set(asking.order[:5])
    assert asking.order[-1] == "greedy 3"


async def test_the_lowest_class_goes_last_and_makes_room_first(asking, gateway, engine):
    engine.freeze()
    tasks = [await asking.ask("first", "greedy")]
    tasks += [await asking.ask(f"low {n}", "batch", "high") for n in range(4)]  # capped by its key
    tasks += [await asking.ask(f"normal {n}", "modest") for n in range(2)]
    tasks += [await asking.ask("high", "modest", "high"), await asking.ask("more low", "batch")]
    engine.thaw()
    await asyncio.gather(*tasks)
    assert asking.refused == {"low 3": "shed", "more low": "queue_full"}
    assert asking.order == ["first", "high", "normal 0", "normal 1", "low 0", "low 1", "low 2"]
    assert gateway.metric("gateway_admission_inside") == 0


async def test_a_deadline_shorter_than_the_queue_is_told_at_once(asking, engine):
    await (await asking.ask("to learn from", "modest"))
    engine.freeze()
    tasks = [await asking.ask(f"before {n}", "greedy") for n in range(4)]
    hurried = {"x-gateway-timeout": "20ms"}
    await (await asking.ask("hurried", "greedy", **hurried))
    engine.thaw()
    await asyncio.gather(*tasks)
    assert asking.refused == {"hurried": "too_late"}
    assert all(1 <= wait <= 60 for wait in asking.waits)

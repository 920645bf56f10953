"""An answer outlives its engine: whatever happens in the middle, it is that of a quiet day.

`FAILOVER_STREAMS=200` makes each of these tests the long one; by default it is a short one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Protocol, TypeVar

import httpx
import pytest

from bench.chaos.engines import is_isolated
from bench.chaos.vitals import below
from tests.e2e.conftest import MLX
from tests.e2e.test_sdk import WEATHER
from tests.support.bad_proxy import Mischief, bad_proxies
from tests.support.children import wait_until
from tests.support.engines import LLAMA_SERVER, MODEL_DIR, VLLM, EngineServer
from tests.support.gateway import GatewayProcess
from tests.support.spoken import Spoken, listen

STREAMS = int(os.environ.get("FAILOVER_STREAMS", "24"))
CLIENTS = 8
TIMEOUT = 120
"""Seconds for a test; ten times that for the long ones."""
MODEL = "tale"
ISOLATED_MLX = "mlx in a process of its own"

pytestmark = pytest.mark.timeout(TIMEOUT if STREAMS < 100 else 10 * TIMEOUT)


COUNTED = {"stream_options": {"include_usage": True}}


def chat(text: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    messages = [{"role": "user", "content": text}]
    return "chat/completions", {"messages": messages, **COUNTED, **fields}


NEARLY_GREEDY = 0.01
"""A temperature at which an answer counts as sampled, and is what a greedy one would be."""
STORY = "Tell me a long story about Mia."
LONG = {"ignore_eos": True, "max_tokens": 700}
"""Answers that take a while, so that things happen in their middle."""
SAID = [
    chat("Count from 1 to 100."),
    chat(STORY),
    chat("Count from 1 to 80.", max_tokens=120),
    chat("Count from 1 to 100.", stop=[" 77"]),
    chat("Count from 1 to 60.", logprobs=True),
    chat("What is the weather in Rome?", tools=[WEATHER]),
    ("completions", {"prompt": "Once upon a time", "max_tokens": 200, **COUNTED}),
    ("responses", {"input": STORY}),
    ("messages", {"messages": [{"role": "user", "content": STORY}], "max_tokens": 400}),
    ("completions", {"prompt": "Once upon a", "max_tokens": 100, "logprobs": 1, **COUNTED}),
]
"""What all engines say alike."""
SAID_LONG = [
    chat("Count from 1 to 100.", **LONG),
    chat(STORY, **LONG),
    chat("Tell me a long story about a fox and a bear.", **LONG),
    *SAID[3:],
    ("responses", {"input": STORY, "ignore_eos": True, "max_output_tokens": 700}),
    ("messages", {"messages": [{"role": "user", "content": STORY}], **LONG}),
    ("completions", {"prompt": "Once upon a time", **COUNTED, **LONG}),
]


@asynccontextmanager
async def client_of(gateway: GatewayProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.root, timeout=60) as client:
        yield client


class House:
    """A gateway, what it is asked, and what it says to that when nothing happens."""

    def __init__(
        self,
        gateway: GatewayProcess,
        requests: list[tuple[str, dict[str, Any]]],
        *,
        told: Callable[[Spoken], object] = lambda spoken: spoken.told,
    ) -> None:
        """`told` is what must be the same of two answers."""
        self._told = told
        self.gateway = gateway
        self.heard: Counter[str] = Counter()
        """Events, answers, and what else has happened."""
        self.temperature = 0.0
        self._requests = requests
        self._right: list[Spoken] = []

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        async with httpx.AsyncClient(base_url=self.gateway.root, timeout=100) as client:
            yield client

    async def whole(self, client: httpx.AsyncClient, number: int) -> Spoken:
        """The answer to a request, to its end."""
        path, body = self._requests[number % len(self._requests)]
        spoken = Spoken()
        asked = {"model": MODEL, "stream": True, "temperature": self.temperature, **body}
        async for spoken in listen(client, path, asked):  # noqa: B007 — the last one counts
            self.heard["events"] += 1
        return spoken

    async def learn(self) -> None:
        """Hear all answers while nothing happens."""
        async with self.client() as client:
            for number in range(len(self._requests)):
                self._right.append(await self.whole(client, number))
        for spoken in self._right:
            assert (spoken.error, spoken.done) == (None, True)

    async def ask_all(self) -> None:
        """Ask `STREAMS` times, `CLIENTS` at a time; all answers must be right."""
        numbers, wrong = iter(range(STREAMS)), []
        kinds: Counter[str] = Counter()

        async def one() -> None:
            for number in numbers:
                spoken = await self.whole(client, number)
                right = self._right[number % len(self._right)]
                if self._told(spoken) != self._told(right):
                    kinds["told so" if spoken.error else "wrong"] += 1
                    wrong.append((number % len(self._right), self._told(spoken), self._told(right)))
                self.heard["answers"] += 1

        async with self.client() as client:
            await asyncio.gather(*(one() for _ in range(CLIENTS)))
        gateway = self.gateway
        self.heard["failovers"] = int(gateway.metric("gateway_failovers_total"))
        self.heard["wasted tokens"] = int(gateway.metric("gateway_wasted_tokens_total"))
        print(dict(self.heard))
        assert not wrong, f"not what they should be: {dict(kinds)} of {STREAMS}, {wrong[0]}"
        assert self.heard["failovers"] > 0, "nothing has happened in the middle of an answer"
        wait_until(lambda: gateway.outstanding() == 0, 5, "an attempt is still counted")


def start(
    start_gateway: Callable[..., GatewayProcess], urls: list[str], **timeouts: str
) -> GatewayProcess:
    """A gateway over llama-servers at `urls`, which all are ready."""
    settings = "".join(f", {name}: {value}" for name, value in timeouts.items())
    listed = ", ".join(f"'{url}'" for url in urls)
    gateway = start_gateway(
        f"backends: {{pair: {{use: llama_server, replicas: [{listed}], model: tiny-tale}}}}\n"
        f"models:\n  {MODEL}:\n    backend: pair\n    balance: round_robin\n"
        f"    timeouts: {{total: 100s, first_token: 10s{settings}}}\n"
        "    retry: {attempts: 6, backoff: 200ms}\n    failover: {attempts: 6}\n"
        "retry_budget: {min_per_second: 1000}\n"
    )
    wait_until(lambda: gateway.metric("gateway_replica_ready") == len(urls), 20, "all are ready")
    return gateway


class Victim(Protocol):
    """An engine to which something may happen."""

    def busy_slots(self) -> int:
        """How many answers it is at work on."""
        ...


V = TypeVar("V", bound=Victim)


async def disturbed(
    house: House,
    servers: Sequence[V],
    happen: Callable[[V], None],
    mend: Callable[[V], None],
    *,
    each: int = 600,
    temperature: float = 0.0,
) -> None:
    """All answers are right, although something `happens` to a server, again and again.

    `each` is the number of events after which it does at the latest.
    """
    await house.learn()
    house.temperature = temperature
    rng, heard = Random(7), house.heard

    async def trouble() -> None:
        while True:
            moment = heard["events"] + rng.randint(20, each)
            while heard["events"] < moment:
                await asyncio.sleep(0.001)
            victim = rng.choice(servers)
            while not await asyncio.to_thread(victim.busy_slots):
                await asyncio.sleep(0.005)
            happen(victim)
            heard["troubles"] += 1
            await asyncio.to_thread(mend, victim)
            await asyncio.to_thread(
                wait_until,
                lambda: house.gateway.metric("gateway_replica_ready") == 2,
                20,
                "all are ready again",
            )

    troubles = asyncio.create_task(trouble())
    try:
        await house.ask_all()
    finally:
        troubles.cancel()
        await asyncio.gather(troubles, return_exceptions=True)


async def test_kill_9(start_gateway, two_llamas):
    house = House(start(start_gateway, [server.url for server in two_llamas]), SAID_LONG)
    await disturbed(
        house, two_llamas, lambda victim: victim.kill(), lambda victim: victim.restart()
    )


async def test_a_server_that_stands_still(start_gateway, two_llamas):
    gateway = start(start_gateway, [server.url for server in two_llamas], idle="2s")

    def thaw(victim: EngineServer) -> None:
        time.sleep(3)  # until the gateway has had enough of it
        victim.thaw()

    await disturbed(House(gateway, SAID_LONG), two_llamas, lambda one: one.freeze(), thaw)


@pytest.mark.parametrize("mischief", Mischief)
async def test_a_line_that_fails(start_gateway, two_llamas, mischief):
    ports = [server.port for server in two_llamas]
    async with bad_proxies(*ports, mischief=mischief, seed=5) as proxies:
        urls = [proxy.url for proxy in proxies]
        gateway = await asyncio.to_thread(start, start_gateway, urls, idle="2s")
        house = House(gateway, SAID_LONG)
        await house.learn()
        for proxy in proxies:
            proxy.at_peace = False
        await house.ask_all()


async def test_two_kinds_of_engine_with_the_same_weights(start_gateway, start_llama_server):
    server = start_llama_server()
    gateway = start_gateway(
        "backends:\n"
        f"  server: {{use: llama_server, replicas: ['{server.url}'], model: tiny-tale}}\n"
        f"  here: {{use: mlx, model: {MODEL_DIR}}}\n"
        f"models:\n  {MODEL}:\n    sticky: none\n    variants:\n"
        "      server: {backend: server, checkpoint: tiny-tale-f32}\n"
        "      here: {backend: here, weight: 0, checkpoint: tiny-tale-f32}\n"
        "    retry: {attempts: 6, backoff: 200ms}\n    failover: {attempts: 6}\n"
        "retry_budget: {min_per_second: 1000}\n"
    )
    wait_until(lambda: gateway.metric("gateway_replica_ready") == 2, 30, "both are ready")
    house = House(gateway, SAID, told=lambda spoken: spoken.told_by_any)
    await disturbed(house, [server], lambda one: one.kill(), lambda one: one.restart(), each=200)


class IsolatedEngine:
    """One of the engines that a gateway runs in processes of their own."""

    def __init__(self, gateway: GatewayProcess, number: int) -> None:
        self._gateway = gateway
        self._number = number

    def busy_slots(self) -> int:
        """See `Victim`: that of all of them, which are as busy as each other."""
        return self._gateway.outstanding()

    def kill(self) -> None:
        pids = sorted(filter(is_isolated, below(self._gateway.child.pid)))
        os.kill(pids[self._number % len(pids)], signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, NEARLY_GREEDY])
async def test_kill_9_of_an_engine_in_a_process_of_its_own(start_gateway, temperature):
    engine = f"{{use: mlx, model: {MODEL_DIR}, isolation: process}}"
    gateway = start_gateway(
        f"backends:\n  one: {engine}\n  other: {engine}\n"
        f"models:\n  {MODEL}:\n    sticky: none\n    variants:\n"
        "      one: {backend: one, checkpoint: tiny-tale-f32}\n"
        "      other: {backend: other, checkpoint: tiny-tale-f32}\n"
        "    retry: {attempts: 6, backoff: 200ms}\n    failover: {attempts: 6}\n"
        "retry_budget: {min_per_second: 1000}\n"
    )
    wait_until(lambda: gateway.metric("gateway_replica_ready") == 2, 30, "both are ready")
    engines = [IsolatedEngine(gateway, number) for number in range(2)]

    def started_again(victim: IsolatedEngine) -> None:
        """It is noticed to be gone; that it is back is waited for by who asks for this."""
        wait_until(lambda: gateway.metric("gateway_replica_ready") == 1, 10, "it is noticed")

    house = House(gateway, SAID if not temperature else SAID[:4] + SAID[6:])
    await disturbed(
        house, engines, lambda one: one.kill(), started_again, each=200, temperature=temperature
    )


async def test_kill_9_of_the_only_engine_which_is_started_again(start_gateway):
    """Nobody else is there: the answers that it had begun go on in its next process."""
    gateway = start_gateway(
        f"backends: {{one: {{use: mlx, model: {MODEL_DIR}, isolation: process}}}}\n"
        f"models: {{{MODEL}: {{backend: one}}}}\n"
    )
    gateway.wait_model(MODEL)
    house = House(gateway, SAID)
    await house.learn()

    async def trouble(moment: int) -> None:
        while house.heard["events"] < moment:
            await asyncio.sleep(0.001)
        IsolatedEngine(gateway, 0).kill()

    await asyncio.gather(trouble(house.heard["events"] + 200), house.ask_all())


@pytest.mark.parametrize("engine", [LLAMA_SERVER, VLLM, MLX, ISOLATED_MLX])
@pytest.mark.parametrize(("temperature", "way"), [(0.0, "replay"), (NEARLY_GREEDY, "continue")])
async def test_the_same_weights_go_on_at_any_engine(
    request, start_gateway, llama_server, engine, temperature, way
):
    """At `engine`, where a line to a llama-server has failed."""
    backend = {
        LLAMA_SERVER: f"{{use: llama_server, replicas: ['{llama_server.url}'], model: tiny-tale}}",
        MLX: f"{{use: mlx, model: {MODEL_DIR}}}",
        ISOLATED_MLX: f"{{use: mlx, model: {MODEL_DIR}, isolation: process}}",
    }
    if engine == VLLM:
        url = request.getfixturevalue("vllm_server").url
        backend[VLLM] = f"{{use: vllm, replicas: ['{url}'], model: tiny-tale}}"
    async with bad_proxies(llama_server.port, mischief=Mischief.RESET, seed=3) as [proxy]:
        gateway = await asyncio.to_thread(
            start_gateway,
            "backends:\n"
            f"  line: {{use: llama_server, replicas: ['{proxy.url}'], model: tiny-tale}}\n"
            f"  other: {backend[engine]}\n"
            f"models:\n  {MODEL}:\n    sticky: none\n    variants:\n"
            "      line: {backend: line, checkpoint: tiny-tale-f32}\n"
            "      other: {backend: other, weight: 0, checkpoint: tiny-tale-f32}\n"
            "retry_budget: {min_per_second: 1000}\n",
        )
        await asyncio.to_thread(
            wait_until, lambda: gateway.metric("gateway_replica_ready") == 2, 30, "both are ready"
        )
        house = House(gateway, SAID[:4] + SAID[6:], told=lambda spoken: spoken.told_by_any)
        await house.learn()
        house.temperature = temperature
        proxy.at_peace = False
        await house.ask_all()
        ways = gateway.metric("gateway_failovers_total", gateway_way=way)
    assert ways == house.heard["failovers"]

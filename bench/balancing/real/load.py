"""Requests to the gateway: as fast as they are answered, or when a clock says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from random import Random

import msgspec

from bench.balancing.figures import quantile
from bench.throughput.client import Reply, ask
from bench.throughput.questions import Body

_TIMEOUT = 300.0
_WORDS = ("the", "small", "house", "river", "went", "to", "and", "saw", "a", "red", "bird", "one")
"""Words that the model's tokenizer knows: a token or two each."""


class Load(msgspec.Struct, frozen=True):
    """Prompts that begin in so many ways, and how many are asked in each half of a round."""

    name: str
    prefixes: int
    """0: no two begin alike."""
    prefix_words: int
    question_words: int
    requests: int
    answer_tokens: int = 8


SHARED = Load("shared prefixes", prefixes=12, prefix_words=900, question_words=30, requests=96)
UNSHARED = Load("unshared", prefixes=0, prefix_words=0, question_words=400, requests=64)


class Round(msgspec.Struct):
    """What one load came to under one policy, slice by slice."""

    answers: int = 0
    seconds: float = 0.0
    """In the closed loop, for so many answers."""
    cpu: float = 0.0
    """Seconds of CPU that the engines used for them."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of all requests."""
    waits: list[float] = []
    """Seconds to the first token, in the open loop."""

    def note(self, replies: Sequence[Reply]) -> None:
        """Count what was cached of their prompts."""
        self.prompt_tokens += sum(reply.prompt_tokens for reply in replies)
        self.cached_tokens += sum(reply.cached for reply in replies)

    def wait(self, share: float) -> float:
        return quantile(sorted(self.waits), share)


def bodies(load: Load, model: str, count: int, seed: str) -> list[Body]:
    """So many requests. The prefixes are the same for every seed, and no question is."""
    fixed, rng = Random(load.name), Random(f"{load.name} {seed}")
    prefixes = [_words(fixed, load.prefix_words) for _ in range(load.prefixes)]
    return [_body(load, model, rng, prefixes) for _ in range(count)]


def _body(load: Load, model: str, rng: Random, prefixes: Sequence[str]) -> Body:
    messages = [{"role": "user", "content": _words(rng, load.question_words)}]
    if prefixes:
        messages.insert(0, {"role": "system", "content": rng.choice(prefixes)})
    return {
        "model": model,
        "messages": messages,
        "max_tokens": load.answer_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _words(rng: Random, count: int) -> str:
    return " ".join(rng.choices(_WORDS, k=count))


async def ask_in_turn(port: int, asked: Sequence[Body], clients: int) -> list[Reply]:
    """Closed loop: `clients` at a time."""
    waiting = list(asked)[::-1]
    replies: list[Reply] = []

    async def client() -> None:
        while waiting:
            async with asyncio.timeout(_TIMEOUT):
                replies.append(await ask(port, waiting.pop()))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(client())
    return replies


async def ask_by_the_clock(
    port: int, asked: Sequence[Body], rate: float, rng: Random
) -> list[Reply]:
    """Open loop: Poisson arrivals at `rate` a second, whatever becomes of those before."""

    async def at(when: float, body: Body) -> Reply:
        await asyncio.sleep(when - time.perf_counter())
        async with asyncio.timeout(_TIMEOUT):
            return await ask(port, body)

    when = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        started = []
        for body in asked:
            when += rng.expovariate(rate)
            started.append(tasks.create_task(at(when, body)))
    return [task.result() for task in started]

"""A trace is the same requests for every policy, as bytes and as tokens; its rate is scaled."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

import msgspec

from bench.balancing.work import Run, Work

BYTES_PER_TOKEN = 4
"""Of the texts in traces: what is usual for English."""


class Part(NamedTuple):
    """A message: what it says, by a key, and how long it is."""

    role: str
    text: int
    tokens: int


class Turn(NamedTuple):
    """One request of a conversation."""

    work: Work
    messages: tuple[Part, ...]
    pause: float
    """Seconds since the answer before it; 0 for the first turn."""

    def body(self) -> bytes:
        """The chat as a client sends it: what a policy may look at."""
        messages = [
            {"role": part.role, "content": text(part.text, part.tokens)} for part in self.messages
        ]
        most = self.work.tokens - self.work.prompt_tokens
        body = {"model": "m", "messages": messages, "max_tokens": most, "stream": True}
        return msgspec.json.encode(body)


class Conversation(NamedTuple):
    """Requests that follow each other."""

    session: bytes
    gap: float
    """Since the start of the one before it, in mean gaps: exponential, so arrivals are Poisson."""
    turns: tuple[Turn, ...]


def text(key: int, tokens: int) -> str:
    """What `key` says, without any likeness to other keys, in `tokens` tokens."""
    size = tokens * BYTES_PER_TOKEN
    return base64.b64encode(Random(key).randbytes(size * 3 // 4 + 3))[:size].decode()


def turn(history: Sequence[Part], answer: Part, pause: float = 0.0) -> Turn:
    """The request for `answer` behind `history`."""
    runs: list[Run] = []
    key = end = 0
    for part in (*history, answer):
        # Python's hash of integers is the same in every process.
        key, end = hash((key, part.text, part.tokens)), end + part.tokens
        runs.append(Run(key, end))
    return Turn(Work(tuple(runs), end - answer.tokens), tuple(history), pause)


class _Source:
    """Draws what a trace is made of; each text is new unless it is asked for by number."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self._next = seed * 1_000_000_007 + 1_000_000

    def new(self, role: str, tokens: int) -> Part:
        self._next += 1
        return Part(role, self._next, tokens)

    def gap(self) -> float:
        return self.rng.expovariate(1.0)

    def long_tailed(self, median: int, sigma: float, most: int) -> int:
        drawn = self.rng.lognormvariate(math.log(median), sigma)
        return max(8, min(most, round(drawn)))


Make = Callable[[int, int], list[Conversation]]
"""A trace of so many requests, by a seed."""


def shared_prefixes(
    requests: int,
    seed: int,
    *,
    prefixes: int = 150,
    prefix_tokens: int = 6000,
    question_tokens: int = 1200,
    answer_tokens: int = 1000,
) -> list[Conversation]:
    """Many customers, each with a long context of its own before every question.

    The shape of llm-d's benchmark ("KV-Cache Wins You Can See", 2025): 150 contexts of 6000 tokens,
    questions of 1200, answers of 1000. Here no question is asked twice.
    """
    source = _Source(seed)

    def one() -> Turn:
        context = Part("system", source.rng.randrange(prefixes), prefix_tokens)
        question = source.new("user", question_tokens)
        return turn([context, question], source.new("assistant", answer_tokens))

    return _single(source, requests, one)


def unshared(
    requests: int, seed: int, *, prompt_tokens: int = 2000, answer_tokens: int = 250
) -> list[Conversation]:
    """No two prompts begin with the same words."""
    source = _Source(seed)
    return _single(
        source,
        requests,
        lambda: turn([source.new("user", prompt_tokens)], source.new("assistant", answer_tokens)),
    )


def mixed_lengths(requests: int, seed: int) -> list[Conversation]:
    """Nothing shared; prompts and answers log-normal: most short, a few fifty times as long."""
    source = _Source(seed)

    def one() -> Turn:
        prompt = source.new("user", source.long_tailed(800, 1.2, 24_000))
        return turn([prompt], source.new("assistant", source.long_tailed(200, 1.0, 3000)))

    return _single(source, requests, one)


def conversations(
    requests: int, seed: int, *, assistants: int = 20, mean_turns: float = 6.0, pause: float = 10.0
) -> list[Conversation]:
    """Chats of several turns with one of some assistants; all that was said is sent along."""
    source = _Source(seed)

    def one() -> Iterator[Turn]:
        history = [Part("system", source.rng.randrange(assistants), 1000)]
        seconds = 0.0
        while True:
            history.append(source.new("user", source.long_tailed(150, 0.8, 2000)))
            answer = source.new("assistant", source.long_tailed(250, 0.7, 1500))
            yield turn(history, answer, seconds)
            if source.rng.random() < 1 / mean_turns:
                return
            history.append(answer)
            seconds = source.rng.expovariate(1 / pause)

    made: list[Conversation] = []
    count = 0
    while count < requests:
        turns = tuple(one())
        made.append(Conversation(b"chat-%d" % len(made), source.gap(), turns))
        count += len(turns)
    return made


def _single(source: _Source, requests: int, one: Callable[[], Turn]) -> list[Conversation]:
    return [Conversation(b"call-%d" % number, source.gap(), (one(),)) for number in range(requests)]

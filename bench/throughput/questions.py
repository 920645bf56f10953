"""What is asked: questions that the shipped model answers at length, the same at every place."""

from __future__ import annotations

from enum import StrEnum
from random import Random
from typing import Any

_NAMES = ("Mia", "Tom", "Lily", "Max", "Anna", "Ben", "Zoe", "Sam", "Leo", "Emma")
_SEED = 7
_TURNS = 4
Body = dict[str, Any]


class Case(StrEnum):
    """A kind of load."""

    GREEDY = "greedy"
    """Long tales at temperature 0."""
    SEEDED = "seeded"
    """The same at temperature 0.8, each with a seed of its own."""
    CHAT = "chat"
    """Conversations of several turns, each turn with all that was said before."""


def questions(case: Case, count: int, max_tokens: int) -> list[list[Body]]:
    """`count` conversations: requests to be sent one after the other."""
    rng = Random(_SEED)
    return [_conversation(case, rng, max_tokens) for _ in range(count)]


def _conversation(case: Case, rng: Random, max_tokens: int) -> list[Body]:
    sampling: Body = {"temperature": 0}
    if case is Case.SEEDED:
        sampling = {"temperature": 0.8, "seed": rng.randrange(1 << 30)}
    messages = [_ask(rng)]
    bodies = [_body(messages, sampling, max_tokens)]
    if case is Case.CHAT:
        for _ in range(_TURNS - 1):
            told = f"Once upon a time, there was {rng.choice(_NAMES)}, who liked to play. " * 8
            messages = [*messages, {"role": "assistant", "content": told}, _ask(rng)]
            bodies.append(_body(messages, sampling, max_tokens))
    return bodies


def _ask(rng: Random) -> dict[str, str]:
    length = rng.choice(("a long story", "a story"))
    return {"role": "user", "content": f"Tell me {length} about {rng.choice(_NAMES)}."}


def _body(messages: list[dict[str, str]], sampling: Body, max_tokens: int) -> Body:
    return {
        "messages": messages,
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        **sampling,
    }

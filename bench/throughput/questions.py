"""What is asked: long stories, behind prompts of different lengths; the same at every place."""

from __future__ import annotations

from enum import StrEnum
from random import Random
from typing import Any

import msgspec

from tools.tiny_tale.grammar.facts import CAPITALS, NAMES, capital_answer

_STORIES = (
    "Tell me a long story about {}.",
    "Write a long story about {}.",
    "Can you tell me a long story about {}?",
    "I want a long story about {}.",
)
_EARLIER = (0, 1, 2, 4, 8)
"""Questions that may have been answered before: a prompt of 15 to 250 tokens."""
_TOKENS = (200, 300)
_TURNS, _TURN_TOKENS = 4, (60, 120)
Body = dict[str, Any]
Message = dict[str, str]


class Case(StrEnum):
    """A kind of load."""

    GREEDY = "greedy"
    """Long stories at temperature 0."""
    MIXED = "mixed"
    """The same; every other one at temperature 0.8, with a seed of its own."""
    CHAT = "chat"
    """Conversations of several turns, each turn with all that was said before."""


class Conversation(msgspec.Struct, frozen=True):
    """Questions to be asked one after the other, each with the answers to those before it."""

    history: list[Message]
    """What was said before the first of them."""
    questions: list[str]
    max_tokens: int
    """Of each answer."""
    sampling: Body

    @property
    def greedy(self) -> bool:
        """Whether its answers are the same wherever it is held."""
        return bool(self.sampling["temperature"] == 0)

    def body(self, messages: list[Message]) -> Body:
        """A request, but for the model's name."""
        return {
            "messages": messages,
            "max_tokens": self.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.sampling,
        }


def conversations(case: Case, count: int, number: int) -> list[Conversation]:
    """Those of round `number`: no round asks what another has asked, for answers are cached."""
    rng = Random(f"{case} {number}")
    return [_conversation(case, rng, seeded=bool(at % 2)) for at in range(count)]


def _conversation(case: Case, rng: Random, *, seeded: bool) -> Conversation:
    sampling: Body = {"temperature": 0}
    if case is Case.MIXED and seeded:
        sampling = {"temperature": 0.8, "seed": rng.randrange(1 << 30)}
    chat = case is Case.CHAT
    return Conversation(
        history=_said(rng, rng.choice(_EARLIER)),
        questions=[_question(rng) for _ in range(_TURNS if chat else 1)],
        max_tokens=rng.randint(*(_TURN_TOKENS if chat else _TOKENS)),
        sampling=sampling,
    )


def _said(rng: Random, exchanges: int) -> list[Message]:
    messages: list[Message] = []
    for country in rng.sample(sorted(CAPITALS), exchanges):
        messages += [
            {"role": "user", "content": f"What is the capital of {country}?"},
            {"role": "assistant", "content": capital_answer(country)},
        ]
    return messages


def _question(rng: Random) -> str:
    return rng.choice(_STORIES).format(rng.choice(NAMES))

"""How far engines say the same to the same greedy prompts. Pure, but for the asking.

With the same weights they say the same, token for token, up to what adding in another order
does; other weights, and other quantizations of the same, part ways sooner. So this is a
measure: what it must be at least is for whoever asks to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

import msgspec

from backends.base import Endpoint
from backends.capabilities import Capability
from gateway.conform.asking import Target, ask
from gateway.conform.finding import MISSHAPEN
from gateway.conform.probes import chat

PROMPTS: Sequence[str] = (
    "What is the capital of Spain?",
    "What is 3 + 4?",
    "Count from 1 to 10.",
    "Tell me a story about Mia.",
    "Write one sentence about the sea.",
    "Answer as JSON: Zoe is 30 and lives in Lima.",
)
_TOKENS = 48

Said = Sequence[str] | None
"""The tokens of one answer, or its characters; None where there is none."""


class Agreement(msgspec.Struct, frozen=True):
    """How two replicas compare."""

    one: str
    other: str
    prompts: int
    """Prompts that both have answered."""
    identical: int
    """Of those, the ones with the same answer."""
    share: float
    """Of the longer answers, how much is the same from the beginning; 1 where all is."""
    unit: str
    """What was compared: `tokens`, or `characters` where one of them tells no tokens."""


async def say_all(target: Target) -> tuple[Said, ...]:
    """What it says to each of `PROMPTS`."""
    return tuple([await _say(target, prompt) for prompt in PROMPTS])


async def _say(target: Target, prompt: str) -> Said:
    more = {"logprobs": True} if Capability.LOGPROBS in target.backend.capabilities else {}
    answer = await ask(target, Endpoint.CHAT, chat(prompt, max_tokens=_TOKENS, **more))
    if more and answer.refused:
        answer = await ask(target, Endpoint.CHAT, chat(prompt, max_tokens=_TOKENS))
    try:
        return tokens_of(answer.json()) if answer.ok else None
    except MISSHAPEN:
        return None


def tokens_of(said: Any) -> Said:
    """The tokens of a chat's answer where it tells them, else its characters."""
    choice = said["choices"][0]
    logprobs = choice.get("logprobs")
    if logprobs and logprobs.get("content"):
        # Some list the end-of-text token, some do not; some show its name, some nothing.
        tokens = [token["token"] for token in logprobs["content"]]
        ended = choice["finish_reason"] == "stop"
        shown = "".join(tokens) == choice["message"]["content"] and tokens[-1]
        return tokens[:-1] if ended and not shown else tokens
    return choice["message"]["content"]  # type: ignore[no-any-return]


def compare(one: str, other: str, said: Mapping[str, Sequence[Said]]) -> Agreement:
    """What `said` shows of two of its replicas."""
    pairs = [
        (a, b)
        for a, b in zip(said[one], said[other], strict=True)
        if a is not None and b is not None
    ]
    in_tokens = not any(isinstance(answer, str) for pair in pairs for answer in pair)
    if not in_tokens:
        pairs = [("".join(a), "".join(b)) for a, b in pairs]
    shared = [_shared(a, b) for a, b in pairs]
    longest = sum(max(len(a), len(b)) for a, b in pairs)
    return Agreement(
        one=one,
        other=other,
        prompts=len(pairs),
        identical=sum(list(a) == list(b) for a, b in pairs),
        share=sum(shared) / longest if longest else float(bool(pairs)),
        unit="tokens" if in_tokens else "characters",
    )


def _shared(a: Sequence[str], b: Sequence[str]) -> int:
    """How many the two begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))

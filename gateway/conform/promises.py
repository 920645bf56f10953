"""What every engine has to keep, whatever it claims. `PROMISES` has them by name.

Each asks a few short, greedy questions and raises what is in `finding` for an answer that is
not as it should be.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from backends.assemble import BrokenStreamError, EngineSaysError, assembler_for
from backends.base import Endpoint
from backends.capabilities import Capability
from gateway.conform.asking import Answer, Fields, Target, ask
from gateway.conform.finding import (
    MISSHAPEN,
    BrokenPromiseError,
    Finding,
    Outcome,
    UnclearError,
    require,
)
from gateway.conform.probes import chat
from gateway.conform.stream import complaints

_LONG = "Tell me a long story about a fox and a bear."
_WITH_USAGE: Fields = {"stream_options": {"include_usage": True}}
_TEXTS = ["The capital of Spain is Madrid.", "Five minus two is three.", "A fox and a bear."]
_SAME_VECTOR = 0.99
"""Cosine: batches round otherwise, in half precision by some thousandths."""
_CUT = 5
"""Characters of a stop string that is cut out of an answer's middle: it crosses tokens."""

Promise = Callable[[Target], Awaitable[None]]


async def hold(target: Target, name: str) -> Finding:
    """Try the promise called `name`."""
    try:
        await PROMISES[name](target)
    except UnclearError as unclear:
        return Finding(target.name, name, Outcome.UNCLEAR, str(unclear))
    except BrokenPromiseError as broken:
        return Finding(target.name, name, Outcome.BROKEN, str(broken))
    except MISSHAPEN as error:
        detail = f"an answer has another shape than it should: {error!r}"
        return Finding(target.name, name, Outcome.BROKEN, detail)
    return Finding(target.name, name, Outcome.KEPT)


async def whole(target: Target, endpoint: Endpoint, fields: Fields) -> Any:
    """The JSON of an answer that must come."""
    answer = await ask(target, endpoint, fields)
    require(answer.ok, answer.told())
    return answer.json()


async def streamed(target: Target, endpoint: Endpoint, fields: Fields, choices: int = 1) -> Any:
    """The same of a stream that must be well-formed, put together."""
    answer = await ask(target, endpoint, {**fields, **_WITH_USAGE}, stream=True)
    require(answer.ok, answer.told())
    require(answer.streamed, "a stream was asked for, and the answer is none")
    found = complaints(answer.body, choices=choices)
    require(not found, "; ".join(found))
    return assembled(answer, endpoint, choices)


def assembled(answer: Answer, endpoint: Endpoint, choices: int = 1) -> Any:
    """The one answer that a stream tells."""
    assembler = assembler_for(endpoint, choices)
    assert assembler is not None, "only what streams is assembled"
    try:
        assembler.feed(answer.body)
        return msgspec.json.decode(msgspec.json.encode(assembler.answer()))
    except EngineSaysError as error:
        raise BrokenPromiseError(f"the stream ends with an error: {error.said.message}") from error
    except BrokenStreamError as error:
        raise BrokenPromiseError(f"the stream makes no answer: {error}") from error


def text_of(said: Any) -> str:
    """The text of the first choice."""
    choice = said["choices"][0]
    return choice["text"] if "text" in choice else choice["message"]["content"] or ""


async def _streams_what_it_says(target: Target) -> None:
    fields = chat(_LONG)
    said = await whole(target, Endpoint.CHAT, fields)
    told = await streamed(target, Endpoint.CHAT, fields)
    _same(said, told)


async def _streams_completions(target: Target) -> None:
    fields = {"prompt": "Once upon a time", "temperature": 0, "max_tokens": 24}
    said = await whole(target, Endpoint.COMPLETIONS, fields)
    told = await streamed(target, Endpoint.COMPLETIONS, fields)
    _same(said, told)


def _same(said: Any, told: Any) -> None:
    """Whole and streamed: the same text, the same reason to end, the same count."""
    require(text_of(said) == text_of(told), f"{text_of(said)!r} is streamed as {text_of(told)!r}")
    one, other = said["choices"][0]["finish_reason"], told["choices"][0]["finish_reason"]
    require(one == other, f"the finish reason is {one!r}, and {other!r} in a stream")
    for field in ("prompt_tokens", "completion_tokens"):
        one, other = said["usage"][field], told["usage"][field]
        require(one == other, f"{field} is {one}, and {other} in a stream")


async def _streams_several(target: Target) -> None:
    if Capability.N not in target.backend.capabilities:
        raise UnclearError("it does not claim n")
    fields = chat(n=2, max_tokens=8, temperature=1)
    told = await streamed(target, Endpoint.CHAT, fields, 2)
    require(len(told["choices"]) == 2, "two choices are streamed as one")


async def _keeps_usage_to_itself(target: Target) -> None:
    answer = await ask(target, Endpoint.CHAT, chat(max_tokens=4), stream=True)
    require(answer.ok, answer.told())
    found = complaints(answer.body, usage=False)
    require(not found, "; ".join(found))


async def _ends_at_one_token(target: Target) -> None:
    said = await whole(target, Endpoint.CHAT, chat(_LONG, max_tokens=1))
    require(said["usage"]["completion_tokens"] == 1, f"the usage is {said['usage']}")
    reason = said["choices"][0]["finish_reason"]
    require(reason == "length", f"the finish reason is {reason!r}")


async def _stops_at_a_string(target: Target) -> None:
    text = text_of(await whole(target, Endpoint.CHAT, chat(_LONG)))
    if len(text) < 4 * _CUT:
        raise UnclearError(f"the answer is too short for a stop string: {text!r}")
    stop = text[len(text) // 2 :][:_CUT]
    kept = text[: text.index(stop)]
    said = await whole(target, Endpoint.CHAT, chat(_LONG, stop=[stop]))
    require(text_of(said) == kept, f"with stop {stop!r}: {text_of(said)!r}, not {kept!r}")
    reason = said["choices"][0]["finish_reason"]
    require(reason == "stop", f"the finish reason is {reason!r}")
    told = await streamed(target, Endpoint.CHAT, chat(_LONG, stop=[stop]))
    require(text_of(told) == kept, f"streamed with stop {stop!r}: {text_of(told)!r}")


async def _repeats_a_seed(target: Target) -> None:
    fields = chat(_LONG, temperature=1, seed=7, max_tokens=16)
    first, second = [text_of(await whole(target, Endpoint.CHAT, fields)) for _ in range(2)]
    if first != second:
        # Batches of another size add up in another order: on a GPU that may change a token.
        raise UnclearError(f"the same seed says {first!r} and {second!r}")


async def _refuses_a_wrong_type(target: Target) -> None:
    answer = await ask(target, Endpoint.CHAT, chat(temperature="hot"))
    require(answer.refused, f"a temperature of 'hot' is answered with {answer.told()}")


async def _embeds_each_text_by_itself(target: Target) -> None:
    if Capability.EMBEDDINGS not in target.backend.capabilities:
        raise UnclearError("it does not claim embeddings")
    first = await ask(target, Endpoint.EMBEDDINGS, {"input": _TEXTS[:1]})
    if first.refused:
        raise UnclearError("it makes no embeddings")
    together = _vectors(await whole(target, Endpoint.EMBEDDINGS, {"input": _TEXTS}))
    for text, vector in zip(_TEXTS, together, strict=True):
        (alone,) = _vectors(await whole(target, Endpoint.EMBEDDINGS, {"input": [text]}))
        same = cosine(vector, alone)
        require(same > _SAME_VECTOR, f"in a list, a text's vector is another: cosine {same:.3f}")


def _vectors(said: Any) -> list[list[float]]:
    ordered = sorted(said["data"], key=lambda one: one["index"])
    return [one["embedding"] for one in ordered]


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """How alike two vectors point, at most 1."""
    product = math.fsum(a * b for a, b in zip(one, other, strict=True))
    return product / (math.hypot(*one) * math.hypot(*other))


EMBEDS = "embeddings: a list"
"""The one that a model keeps which makes no text."""

PROMISES: Mapping[str, Promise] = {
    "stream: chat": _streams_what_it_says,
    "stream: completions": _streams_completions,
    "stream: n": _streams_several,
    "stream: no usage unasked": _keeps_usage_to_itself,
    "max_tokens": _ends_at_one_token,
    "stop": _stops_at_a_string,
    "seed": _repeats_a_seed,
    "wrong type": _refuses_a_wrong_type,
    EMBEDS: _embeds_each_text_by_itself,
}
"""By the name in the report."""

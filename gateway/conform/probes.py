"""A question for each capability, and what its answer says. `PROBES` has one of each.

A question is put so that an engine which ignores the field gives itself away: a schema that no
model would keep to by chance, a tool that nobody would call unasked, a sentence to be gone on
with in the middle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from backends.base import Endpoint
from backends.capabilities import Capability
from backends.malformed import MALFORMED
from gateway.conform.asking import Answer, Fields, Target, ask
from gateway.conform.finding import (
    MISSHAPEN,
    BrokenPromiseError,
    Finding,
    Outcome,
    UnclearError,
    require,
)
from gateway.conform.sight import looks, shown

_JSON = msgspec.json.Decoder(float_hook=float)
"""Of what a model wrote: a number beyond what a float holds is JSON all the same (RFC 8259, 6)."""
_QUESTION = "What is the capital of Spain?"
_WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
_TOOLS = [{"type": "function", "function": _WEATHER}]
_COLOURS = ["vermilion", "ultramarine"]
_SCHEMA = {
    "type": "object",
    "properties": {
        "colour": {"type": "string", "enum": _COLOURS},
        "shades": {"type": "integer", "enum": [3, 5]},
    },
    "required": ["colour", "shades"],
    "additionalProperties": False,
}
_ROOM = 1024
"""Tokens for what a grammar holds an answer to: a small model fills its strings with a lot."""
_TOKEN_IDS = [5, 6, 7, 8]
"""A prompt in every vocabulary."""


class Probe(msgspec.Struct, frozen=True):
    """`judge` is given the answer's JSON; it raises what is in `finding`."""

    endpoint: Endpoint
    fields: Fields
    judge: Callable[[Any], None]


async def makes_text(target: Target) -> bool:
    """Whether its model is one that answers; one that embeds or ranks refuses all the rest."""
    for capability in (Capability.CHAT, Capability.COMPLETIONS):
        probe = PROBES[capability]
        if not (await ask(target, probe.endpoint, probe.fields)).refused:
            return True
    return False


async def try_capability(
    target: Target, capability: Capability, *, answers: bool = True
) -> Finding:
    """Ask for it, and compare what came with what the backend claims.

    `answers`: its model makes text, as the claims have it.
    """
    probe = PROBES[capability]
    answer = await ask(target, probe.endpoint, probe.fields)
    claimed = capability in target.backend.capabilities
    certain = claimed and answers and capability not in target.backend.conditional
    outcome, detail = judge(probe, answer)
    if capability is Capability.IMAGES and outcome is Outcome.KEPT:
        outcome, detail = await looks(target)
    if not claimed and capability in target.translated:
        # Also where the engine answers by itself: it is asked in the gateway's way only.
        outcome, detail = Outcome.TRANSLATED, "of chats, by the gateway"
    elif not claimed and outcome is not Outcome.KEPT:
        outcome = Outcome.ABSENT
    elif outcome is Outcome.REFUSED and certain:
        outcome, detail = Outcome.BROKEN, f"claimed, but {detail}"
    elif outcome is Outcome.KEPT and not claimed:
        outcome, detail = Outcome.ABSENT, "works, although it is not claimed"
    return Finding(target.name, capability, outcome, detail)


def judge(probe: Probe, answer: Answer) -> tuple[Outcome, str]:
    """What `answer` shows, claims aside."""
    if answer.refused:
        return Outcome.REFUSED, answer.told()
    if not answer.ok:
        return Outcome.BROKEN, answer.told()
    try:
        probe.judge(answer.json())
    except UnclearError as unclear:
        return Outcome.UNCLEAR, str(unclear)
    except BrokenPromiseError as broken:
        return Outcome.BROKEN, str(broken)
    except MISSHAPEN as error:
        return Outcome.BROKEN, f"the answer has another shape than it should: {error!r}"
    return Outcome.KEPT, ""


def chat(text: str = _QUESTION, **more: Any) -> Fields:
    """The fields of a short, greedy chat request."""
    said = [{"role": "user", "content": text}]
    return {"messages": said, "temperature": 0, "max_tokens": 48, **more}


def _completion(prompt: object = "The capital of Spain is", **more: Any) -> Fields:
    return {"prompt": prompt, "temperature": 0, "max_tokens": 8, **more}


def _format(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, **more}


# -- what the answers must show -----------------------------------------------------------------


def _is_chat(said: Any) -> None:
    message = said["choices"][0]["message"]
    require(message["role"] == "assistant", f"the role is {message['role']!r}")
    require(isinstance(message["content"], str), "there is no content")
    _has_usage(said)


def _has_usage(said: Any) -> None:
    usage = said["usage"]
    total = usage["prompt_tokens"] + usage["completion_tokens"]
    require(usage["total_tokens"] == total, f"the usage does not add up: {usage}")
    require(usage["prompt_tokens"] > 0, "the prompt counts no tokens")


def _is_completion(said: Any) -> None:
    require(isinstance(said["choices"][0]["text"], str), "there is no text")
    _has_usage(said)


def _is_response(said: Any) -> None:
    kinds = [item["type"] for item in said["output"]]
    require("message" in kinds or "reasoning" in kinds, f"the output has {kinds}")
    require(said["usage"]["input_tokens"] > 0, "the input counts no tokens")


def _is_message(said: Any) -> None:
    require(said["type"] == "message" and said["role"] == "assistant", "it is no message")
    require(said["stop_reason"] in ("end_turn", "max_tokens"), f"stop_reason {said['stop_reason']}")
    require(said["usage"]["input_tokens"] > 0, "the input counts no tokens")


def _is_count(said: Any) -> None:
    require(said["input_tokens"] > 0, "the input counts no tokens")


def _are_embeddings(said: Any) -> None:
    vectors = [one["embedding"] for one in said["data"]]
    require([one["index"] for one in said["data"]] == [0, 1], "two inputs make other than two")
    require(len(vectors[0]) == len(vectors[1]) > 0, "the vectors differ in length")
    for vector in vectors:
        length = math.hypot(*vector)
        require(math.isfinite(length) and length > 0, f"a vector has the length {length}")


def _is_ranking(said: Any) -> None:
    found = sorted(one["index"] for one in said["results"])
    require(found == [0, 1], f"two documents give the results {found}")
    require(all(math.isfinite(one["relevance_score"]) for one in said["results"]), "no scores")


def _arguments(said: Any) -> Any:
    """Those of the first tool call; None where there is none."""
    calls = said["choices"][0]["message"].get("tool_calls")
    if not calls:
        return None
    called = calls[0]["function"]
    require(called["name"] == _WEATHER["name"], f"it calls {called['name']!r}")
    require(calls[0]["id"], "the call has no id")
    try:
        return _JSON.decode(called["arguments"])
    except MALFORMED as error:
        raise BrokenPromiseError(f"the arguments are no JSON: {error}") from error


def _may_call(said: Any) -> None:
    if _arguments(said) is None:
        raise UnclearError("it took tools and called none")


def _must_call(said: Any) -> None:
    arguments = _arguments(said)
    if arguments is None and said["choices"][0]["finish_reason"] == "length":
        raise UnclearError("the answer was cut before its call")
    require(arguments is not None, "a forced tool is not called")
    require(isinstance(arguments, dict), "the arguments are no object")


def _json_content(said: Any) -> Any:
    choice = said["choices"][0]
    try:
        return _JSON.decode(choice["message"]["content"])
    except MALFORMED as error:
        if choice["finish_reason"] == "length":
            raise UnclearError("the answer was cut before its JSON ended") from error
        raise BrokenPromiseError(f"the answer is no JSON: {error}") from error


def _is_object(said: Any) -> None:
    require(isinstance(_json_content(said), dict), "the answer is JSON, but no object")


def _keeps_schema(said: Any) -> None:
    content = _json_content(said)
    require(isinstance(content, dict), "the answer is JSON, but no object")
    require(set(content) == {"colour", "shades"}, f"the keys are {sorted(content)}")
    require(content["colour"] in _COLOURS, f"the colour is {content['colour']!r}")
    require(content["shades"] in (3, 5), f"the shades are {content['shades']!r}")


def _has_logprobs(said: Any) -> None:
    logprobs = said["choices"][0]["logprobs"]
    require(logprobs and logprobs["content"], "there are none")
    for token in logprobs["content"]:
        best = token["top_logprobs"]
        require(len(best) == 2, f"{len(best)} of 2 top_logprobs")
        require(token["logprob"] <= 0, f"a logprob of {token['logprob']}")
        require(best[0]["logprob"] >= best[1]["logprob"], "the top_logprobs are not in order")
        # Greedy: the token that was taken is the likeliest.
        require(token["logprob"] >= best[0]["logprob"] - 1e-3, "it is not that of the best token")


def _goes_on(said: Any) -> None:
    text = said["choices"][0]["message"]["content"]
    require(isinstance(text, str), "there is no content")
    rest = text.removeprefix(_BEGUN)
    if not rest.strip():
        raise UnclearError("it ends where it should go on")
    require(not rest.lstrip().startswith("One"), f"it begins anew: {text[:40]!r}")


_BEGUN = "One, two, three,"


def _are_two(said: Any) -> None:
    indexes = sorted(choice["index"] for choice in said["choices"])
    require(indexes == [0, 1], f"of two choices there are {indexes}")


def _counts_token_ids(said: Any) -> None:
    counted = said["usage"]["prompt_tokens"]
    most = len(_TOKEN_IDS) + 1  # a beginning-of-text token, perhaps
    require(len(_TOKEN_IDS) <= counted <= most, f"{len(_TOKEN_IDS)} ids count as {counted} tokens")


def _tells_token_ids(said: Any) -> None:
    ids = said["choices"][0].get("token_ids")
    require(isinstance(ids, list) and ids, "the answer tells none")
    require(all(isinstance(one, int) for one in ids), "they are no numbers")
    counted = said["usage"]["completion_tokens"]
    require(len(ids) == counted, f"{len(ids)} ids for {counted} tokens")


_USER = [{"role": "user", "content": _QUESTION}]
_DOCUMENTS = ["Madrid is the capital of Spain.", "Five minus two is three."]
_BEGINNING = [
    {"role": "user", "content": "Count from one to six, in words."},
    {"role": "assistant", "content": _BEGUN},
]
_NAMED = {"type": "function", "function": {"name": _WEATHER["name"]}}
_SCHEMA_FORMAT = _format("json_schema", json_schema={"name": "paint", "schema": _SCHEMA})

_CHAT, _TEXT = Endpoint.CHAT, Endpoint.COMPLETIONS

PROBES: Mapping[Capability, Probe] = {
    Capability.CHAT: Probe(_CHAT, chat(), _is_chat),
    Capability.COMPLETIONS: Probe(_TEXT, _completion(), _is_completion),
    Capability.RESPONSES: Probe(
        Endpoint.RESPONSES, {"input": _QUESTION, "max_output_tokens": 48}, _is_response
    ),
    Capability.MESSAGES: Probe(
        Endpoint.MESSAGES, {"messages": _USER, "max_tokens": 48}, _is_message
    ),
    Capability.COUNT_TOKENS: Probe(Endpoint.COUNT_TOKENS, {"messages": _USER}, _is_count),
    Capability.EMBEDDINGS: Probe(Endpoint.EMBEDDINGS, {"input": _DOCUMENTS}, _are_embeddings),
    Capability.RERANK: Probe(
        Endpoint.RERANK, {"query": _QUESTION, "documents": _DOCUMENTS}, _is_ranking
    ),
    Capability.TOOLS: Probe(
        _CHAT, chat("What is the weather in Oslo?", tools=_TOOLS, max_tokens=128), _may_call
    ),
    Capability.FORCED_TOOLS: Probe(
        _CHAT, chat(tools=_TOOLS, tool_choice=_NAMED, max_tokens=_ROOM), _must_call
    ),
    Capability.JSON_OBJECT: Probe(
        _CHAT, chat(response_format=_format("json_object"), max_tokens=_ROOM), _is_object
    ),
    Capability.JSON_SCHEMA: Probe(
        _CHAT, chat(response_format=_SCHEMA_FORMAT, max_tokens=100), _keeps_schema
    ),
    Capability.LOGPROBS: Probe(
        _CHAT, chat(logprobs=True, top_logprobs=2, max_tokens=8), _has_logprobs
    ),
    Capability.PREFILL: Probe(
        _CHAT,
        {
            **chat(max_tokens=12),
            "messages": _BEGINNING,
            "continue_final_message": True,
            "add_generation_prompt": False,
        },
        _goes_on,
    ),
    Capability.N: Probe(_CHAT, chat(n=2, max_tokens=4, temperature=1), _are_two),
    Capability.TOKEN_PROMPTS: Probe(_TEXT, _completion(_TOKEN_IDS), _counts_token_ids),
    Capability.TOKEN_IDS: Probe(_TEXT, _completion(return_token_ids=True), _tells_token_ids),
    Capability.IMAGES: Probe(_CHAT, shown(), _is_chat),
}
"""One for each capability."""

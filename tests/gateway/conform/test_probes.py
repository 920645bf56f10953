"""Whether a probe can tell: a good answer is kept, and each way to cheat is found out."""

from __future__ import annotations

import json

import pytest

from backends.capabilities import Capability
from gateway.conform.asking import Answer
from gateway.conform.finding import Outcome
from gateway.conform.probes import PROBES, judge

USAGE = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}


def chat(content="Madrid", finish="stop", usage=USAGE, **more):
    message = {"role": "assistant", "content": content, **more.pop("message", {})}
    choice = {"index": 0, "message": message, "finish_reason": finish, **more}
    return {"choices": [choice], "usage": usage}


def text(usage=USAGE, **more):
    return {"choices": [{"index": 0, "text": "x", **more}], "usage": usage}


def call(name="get_weather", arguments='{"city":"Oslo"}'):
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"id": "c", "type": "function", "function": function}]}


def logprobs(taken=-0.1, best=-0.1, other=-3.0, count=2):
    best_ones = [{"token": "a", "logprob": best}, {"token": "b", "logprob": other}]
    token = {"token": "a", "logprob": taken, "top_logprobs": best_ones[:count]}
    return {"content": [token]}


def embedded(*vectors):
    return {"data": [{"index": at, "embedding": one} for at, one in enumerate(vectors)]}


def outcome(capability, answer):
    body = json.dumps(answer).encode()
    return judge(PROBES[capability], Answer(status=200, body=body))


def test_every_capability_has_a_probe():
    assert set(PROBES) == set(Capability)


C = Capability
PAINT = '{"colour": "vermilion", "shades": 3}'


@pytest.mark.parametrize(
    ("capability", "answer"),
    [
        (C.CHAT, chat()),
        (C.COMPLETIONS, text()),
        (C.RESPONSES, {"output": [{"type": "message"}], "usage": {"input_tokens": 3}}),
        (
            C.MESSAGES,
            {
                "type": "message",
                "role": "assistant",
                "stop_reason": "end_turn",
                "usage": {"input_tokens": 3},
            },
        ),
        (C.COUNT_TOKENS, {"input_tokens": 3}),
        (C.EMBEDDINGS, embedded([0.1, 0.2], [0.3, -0.1])),
        (C.RERANK, {"results": [{"index": at, "relevance_score": 0.1} for at in (1, 0)]}),
        (C.TOOLS, chat(message=call())),
        (C.FORCED_TOOLS, chat(message=call())),
        (C.JSON_OBJECT, chat('{"a": 1}')),
        (C.JSON_OBJECT, chat('{"a": -7e999}')),
        (C.JSON_SCHEMA, chat(PAINT)),
        (C.LOGPROBS, chat(logprobs=logprobs())),
        (C.PREFILL, chat(" four, five, six.")),
        (C.PREFILL, chat("One, two, three, four, five, six.")),
        (C.N, {"choices": [{"index": 1}, {"index": 0}]}),
        (C.TOKEN_PROMPTS, text()),
        (C.TOKEN_IDS, text(token_ids=[5, 6])),
        (C.IMAGES, chat()),
    ],
)
def test_what_keeps_its_promise(capability, answer):
    assert outcome(capability, answer) == (Outcome.KEPT, "")


@pytest.mark.parametrize(
    ("capability", "answer"),
    [
        (C.CHAT, {}),
        (C.CHAT, []),
        (C.CHAT, chat(usage={**USAGE, "total_tokens": 7})),
        (C.CHAT, chat(usage=None)),
        (C.EMBEDDINGS, embedded([0.1, 0.2])),
        (C.EMBEDDINGS, embedded([0.1, 0.2], [0.1])),
        (C.EMBEDDINGS, embedded([0.0, 0.0], [0.1, 0.1])),
        (C.EMBEDDINGS, embedded([1e999], [10**400])),
        (C.RERANK, {"results": []}),
        (C.TOOLS, chat(message=call(name="other"))),
        (C.FORCED_TOOLS, chat()),
        (C.FORCED_TOOLS, chat(message=call(arguments="Oslo"))),
        (C.FORCED_TOOLS, chat(message=call(arguments='"Oslo"'))),
        (C.JSON_OBJECT, chat("Madrid")),
        (C.JSON_OBJECT, chat("7")),
        (C.JSON_SCHEMA, chat("Madrid")),
        (C.JSON_SCHEMA, chat('{"colour": "red", "shades": 3}')),
        (C.JSON_SCHEMA, chat('{"colour": "vermilion"}')),
        (C.JSON_SCHEMA, chat('{"colour": "vermilion", "shades": 3, "x": 1}')),
        (C.LOGPROBS, chat()),
        (C.LOGPROBS, chat(logprobs=None)),
        (C.LOGPROBS, chat(logprobs=logprobs(count=1))),
        (C.LOGPROBS, chat(logprobs=logprobs(taken=-3.0))),
        (C.LOGPROBS, chat(logprobs=logprobs(taken=0.1))),
        (C.PREFILL, chat("One. Two. Three.")),
        (C.N, {"choices": [{"index": 0}]}),
        (C.TOKEN_PROMPTS, text(usage={**USAGE, "prompt_tokens": 12, "total_tokens": 14})),
        (C.TOKEN_IDS, text()),
        (C.TOKEN_IDS, text(token_ids=[5])),
        (C.TOKEN_IDS, text(token_ids=["a", "b"])),
    ],
)
def test_what_only_looks_like_it(capability, answer):
    found, why = outcome(capability, answer)
    assert found is Outcome.BROKEN
    assert why


@pytest.mark.parametrize(
    ("capability", "answer"),
    [
        (C.TOOLS, chat("It is cold.")),
        (C.JSON_OBJECT, chat('{"a": ', finish="length")),
        (C.FORCED_TOOLS, chat('{"a": ', finish="length")),
        (C.PREFILL, chat("")),
    ],
)
def test_what_shows_nothing(capability, answer):
    assert outcome(capability, answer)[0] is Outcome.UNCLEAR


@pytest.mark.parametrize("status", [400, 404, 422, 501])
def test_a_clear_no(status):
    answer = Answer(status=status, body=b'{"error":{"message":"no"}}')
    assert judge(PROBES[C.CHAT], answer) == (Outcome.REFUSED, f"HTTP {status}: no")


@pytest.mark.parametrize(
    "answer", [Answer(status=500), Answer(status=0, failure="gone"), Answer(status=200, body=b"{")]
)
def test_a_failure_is_no_refusal(answer):
    assert judge(PROBES[C.CHAT], answer)[0] is Outcome.BROKEN

"""What no engine can answer: a clear 4xx from each, and nobody else in the batch suffers."""

from __future__ import annotations

import asyncio
import re

import pytest

from backends.base import Endpoint
from backends.capabilities import Capability
from gateway.conform.asking import ask
from gateway.conform.probes import chat
from gateway.conform.promises import text_of, whole
from tests.contract.conftest import require_capability
from tests.support.engines import LLAMA_SERVER, VLLM

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = "Tell me a long story about a fox and a bear."
TOO_LONG = "word " * 12000
"""More than any of these engines' contexts, which hold 2048 or 4096 tokens."""


def schema(value):
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": value, "strict": True}}


BAD = {
    "max_tokens 0": (chat(max_tokens=0), "max_tokens"),
    "max_tokens -5": (chat(max_tokens=-5), "max_tokens"),
    "temperature -1": (chat(temperature=-1), "temperature"),
    "top_p 2": (chat(top_p=2), "top_p"),
    "a role that is none": ({**chat(), "messages": [{"role": "wizard", "content": "x"}]}, "role"),
    "messages that are text": ({**chat(), "messages": "Hello"}, "messages"),
    "a message without content": ({**chat(), "messages": [{"role": "user"}]}, "content"),
}

LENIENT = {
    (LLAMA_SERVER, "a role that is none"): "handed to the template",
    (VLLM, "a role that is none"): "handed to the template",
    (VLLM, "a message without content"): "an empty message",
    (LLAMA_SERVER, "''"): "an empty answer; the gateway refuses it",
    (LLAMA_SERVER, "[[]]"): "an empty answer",
    (LLAMA_SERVER, "['']"): "an empty answer",
    (LLAMA_SERVER, "a pattern that is none"): "any string",
    (LLAMA_SERVER, "a bias for no token"): "nothing",
}
"""What an engine takes, and for what: theirs to decide, and told here so that it is known."""


def check(answer, engine, name, field=""):
    """It is a clear no that names the field; or an answer, where the engine is known for that."""
    if (engine, name) in LENIENT:
        assert answer.ok, f"no longer lenient: {answer}"
        return
    assert 400 <= answer.status < 500, answer
    assert re.search(field, f"{answer.error.param} {answer.error.message}", re.IGNORECASE), answer


@pytest.mark.parametrize("name", BAD)
async def test_it_is_refused_and_the_field_named(target, engine, name):
    fields, field = BAD[name]
    check(await ask(target, Endpoint.CHAT, fields), engine, name, field)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_context_too_long_is_told_with_both_numbers(target, stream):
    answer = await ask(target, Endpoint.CHAT, chat(TOO_LONG), stream=stream)
    assert answer.status == 400, answer
    assert answer.error.code == "context_length_exceeded"
    numbers = {int(number) for number in re.findall(r"\d+", answer.error.message)}
    assert numbers & {2048, 4096}, answer.error.message
    assert any(number > 12000 for number in numbers), answer.error.message


@pytest.mark.parametrize("prompt", ["", [], [[]], [""], [10**9], [-1]], ids=repr)
async def test_a_prompt_of_nothing_or_of_no_tokens(target, engine, prompt):
    answer = await ask(target, Endpoint.COMPLETIONS, {"prompt": prompt, "max_tokens": 4})
    check(answer, engine, repr(prompt), "prompt|token id")


BROKEN_SCHEMAS = {
    "a type that is none": {"type": "wizard"},
    "a reference to nowhere": {"$ref": "#/$defs/nothing"},
    "a pattern that is none": {"type": "string", "pattern": "("},
    "no schema at all": "integer",
}


@pytest.mark.parametrize("name", BROKEN_SCHEMAS)
async def test_a_schema_that_cannot_be_compiled(target, engine, name):
    require_capability(target, Capability.JSON_SCHEMA)
    fields = chat(response_format=schema(BROKEN_SCHEMAS[name]))
    check(await ask(target, Endpoint.CHAT, fields), engine, name)


BAD_ONES = {
    "too long": chat(TOO_LONG),
    "a bad schema": chat(response_format=schema({"type": "wizard"})),
    "a bias for no token": chat(logit_bias={"99999999": 1}),
    "no temperature": chat(temperature="hot"),
}


@pytest.mark.parametrize("name", BAD_ONES)
async def test_one_bad_request_among_seven_good_ones_hurts_none_of_them(target, engine, name):
    alone = text_of(await whole(target, Endpoint.CHAT, chat(LONG)))
    good = [whole(target, Endpoint.CHAT, chat(LONG)) for _ in range(7)]
    bad = ask(target, Endpoint.CHAT, BAD_ONES[name])
    *answers, refused = await asyncio.gather(*good, bad)
    assert [text_of(said) for said in answers] == [alone] * 7
    check(refused, engine, name)
    assert text_of(await whole(target, Endpoint.CHAT, chat(LONG))) == alone

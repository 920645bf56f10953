from __future__ import annotations

import msgspec
import pytest

from backends.base import Endpoint
from gateway.wire.peek import peek
from gateway.wire.prompt import apart, prompt_of

HELLO = {"role": "user", "content": "Hello"}
ANSWER = {"role": "assistant", "content": "Hi!"}
MORE = {"role": "user", "content": "And then?"}
TOOLS = [{"type": "function", "function": {"name": "look"}}]

BODIES = {
    Endpoint.CHAT: {"messages": [HELLO], "tools": TOOLS},
    Endpoint.COMPLETIONS: {"prompt": "Once upon a time"},
    Endpoint.RESPONSES: {"input": "Hello", "instructions": "Be short", "tools": TOOLS},
    Endpoint.MESSAGES: {"messages": [HELLO], "system": "Be short", "tools": TOOLS},
}


def seen(endpoint, **body):
    return peek(endpoint, msgspec.json.encode({"model": "m", **body}))


def prompt(endpoint, **body):
    return prompt_of(endpoint, seen(endpoint, **body))


def test_a_conversation_begins_with_all_of_its_earlier_turns():
    first = prompt(Endpoint.CHAT, messages=[HELLO])
    later = prompt(Endpoint.CHAT, messages=[HELLO, ANSWER, MORE])
    assert later.startswith(first.removesuffix(b"]"))


@pytest.mark.parametrize(
    ("endpoint", "field"),
    [(endpoint, field) for endpoint, body in BODIES.items() for field in body],
)
def test_it_has_all_that_an_engine_reads(endpoint, field):
    assert msgspec.json.encode(BODIES[endpoint][field]) in prompt(endpoint, **BODIES[endpoint])


@pytest.mark.parametrize("endpoint", BODIES)
def test_what_is_no_part_of_the_prompt_changes_nothing(endpoint):
    body = BODIES[endpoint]
    assert prompt(endpoint, **body) == prompt(
        endpoint, temperature=1, user="u", stream=True, **body
    )


@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.MESSAGES, Endpoint.RESPONSES])
def test_other_tools_are_another_beginning(endpoint):
    one = prompt(endpoint, **BODIES[endpoint])
    other = prompt(endpoint, **{**BODIES[endpoint], "tools": [{"name": "else"}]})
    assert one[:16] != other[:16]


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (Endpoint.EMBEDDINGS, {"input": "a"}),
        (Endpoint.COUNT_TOKENS, {"messages": [HELLO]}),
        (Endpoint.RERANK, {"query": "a", "documents": ["b"]}),
    ],
)
def test_what_an_engine_does_not_remember_has_none(endpoint, body):
    assert prompt(endpoint, **body) == b""


def test_models_and_salts_are_kept_apart():
    plain = seen(Endpoint.CHAT, messages=[HELLO])
    salted = seen(Endpoint.CHAT, messages=[HELLO], cache_salt="mine")
    other = peek(Endpoint.CHAT, msgspec.json.encode({"model": "other", "messages": [HELLO]}))
    assert len({apart(plain), apart(salted), apart(other)}) == 3

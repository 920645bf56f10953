from __future__ import annotations

import msgspec
import pytest

from backends.base import Endpoint
from gateway.wire.peek import peek
from gateway.wire.prompt import apart, prompt_of, size_of

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


@pytest.mark.parametrize(
    "picture",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "aB3/" * 50_000}},
        {"type": "image", "source": {"type": "base64", "data": "aB3/" * 50_000 + "=="}},
    ],
)
def test_a_picture_counts_as_a_page_of_text(picture):
    text = {"type": "text", "text": "What is it? " * 100}
    asked = prompt(Endpoint.CHAT, messages=[{"role": "user", "content": [picture, text]}])
    assert len(asked) > 200_000
    assert 4096 < size_of(asked) < 3 * 4096


def test_two_pictures_count_as_two_pages_and_the_text_around_them_as_it_is():
    picture, text = b"aB3/" * 50_000, b"What is it? " * 1000
    assert abs(size_of(text + picture + text + picture) - 2 * (4096 + len(text))) < 2 * 4096


def test_text_counts_as_it_is_also_where_it_speaks_of_data():
    for asked in (b"What is base64? " * 1000, b"A" * 4000 + b" ", "\u4e16\u754c".encode() * 9999):
        assert size_of(asked) == len(asked)

from __future__ import annotations

import json

import pytest

from backends.malformed import MALFORMED
from gateway.wire.translate.chat import read_chat


def message(**fields):
    return read_chat(json.dumps({"choices": [{"message": fields}]}).encode()).choices[0].message


def test_content_is_one_text_however_it_comes():
    assert message(content="Hi").text == "Hi"
    assert message(content=[{"type": "text", "text": "H"}, "?", {"text": "i"}]).text == "Hi"
    assert message(content=None).text == message(content=7).text == ""


def test_thinking_has_two_names_and_counts_once():
    assert message(reasoning_content="a", reasoning="a").thinking == "a"
    assert message(reasoning="b").thinking == "b"


def test_a_field_of_another_type_is_none():
    said = read_chat(b'{"model": 1, "choices": [{"finish_reason": 3}, 7], "usage": {"x": 1}}')
    assert said.model == ""
    assert said.choices[0].finish_reason is None
    assert said.usage.prompt_tokens == 0


def test_what_is_no_json_is_an_error():
    with pytest.raises(MALFORMED):
        read_chat(b'{"choices": [')


def test_cached_tokens_are_never_more_than_the_prompt():
    usage = read_chat(
        b'{"usage": {"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 9}}}'
    ).usage
    assert (usage.cached, usage.thinking) == (3, 0)

from __future__ import annotations

import json

import pytest

from backends.base import CAPABILITY_OF, Endpoint
from backends.capabilities import Capability
from gateway.wire.needs import field_of, needs
from gateway.wire.peek import peek

USER = [{"role": "user", "content": "Hello"}]
TOOLS = [{"type": "function", "function": {"name": "f"}}]
CONTENT = {
    Endpoint.CHAT: {"messages": USER},
    Endpoint.MESSAGES: {"messages": USER},
    Endpoint.COUNT_TOKENS: {"messages": USER},
    Endpoint.COMPLETIONS: {"prompt": "Hello"},
    Endpoint.EMBEDDINGS: {"input": "Hello"},
    Endpoint.RESPONSES: {"input": "Hello"},
    Endpoint.RERANK: {},
}


def needed(endpoint: Endpoint = Endpoint.CHAT, **fields: object) -> set[str]:
    """What a request needs beside its endpoint."""
    body = json.dumps({"model": "m", **CONTENT[endpoint], **fields}).encode()
    found = needs(endpoint, peek(endpoint, body), body)
    assert CAPABILITY_OF[endpoint] in found
    return set(found - {CAPABILITY_OF[endpoint]})


def parts(*contents: object) -> list[dict[str, object]]:
    return [{"role": "user", "content": content} for content in contents]


@pytest.mark.parametrize("endpoint", Endpoint)
def test_every_endpoint_is_a_need(endpoint):
    assert needed(endpoint) == set()


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"tools": TOOLS}, {"tools"}),
        ({"tools": TOOLS, "tool_choice": "auto"}, {"tools"}),
        ({"tools": TOOLS, "tool_choice": "required"}, {"tools", "forced_tools"}),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "f"}}},
            {"tools", "forced_tools"},
        ),
        ({"response_format": {"type": "json_object"}}, {"json_object"}),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, {"json_schema"}),
        ({"logprobs": True}, {"logprobs"}),
        ({"continue_final_message": True}, {"prefill"}),
        ({"return_token_ids": True}, {"token_ids"}),
        ({"n": 2}, {"n"}),
    ],
)
def test_a_field_that_asks_for_something(fields, wanted):
    assert needed(**fields) == wanted


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": []},
        {"tools": None},
        {"tools": TOOLS, "tool_choice": "none"},
        {"tool_choice": "required"},
        {"response_format": None},
        {"response_format": {"type": "text"}},
        {"logprobs": False},
        {"logprobs": None},
        {"continue_final_message": False},
        {"n": 1},
        {"n": None},
    ],
)
def test_a_field_that_asks_for_nothing(fields):
    assert needed(**fields) == set()


@pytest.mark.parametrize("nothing", ["[]", "[ ]", "[\n]", "[\r\n\t ]", "null"])
def test_no_tools_however_they_are_written(nothing):
    body = b'{"model":"m","messages":[{}],"tools":%s}' % nothing.encode()
    assert needs(Endpoint.CHAT, peek(Endpoint.CHAT, body), body) == {Capability.CHAT}


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": "json"},
        {"response_format": {"type": 7}},
        {"response_format": {"type": "grammar"}},
        {"response_format": [[]]},
    ],
)
def test_what_is_unknown_here_is_an_engines_to_judge(fields):
    assert needed(**fields) == set()


@pytest.mark.parametrize("choice", [7, [], {"type": 7}, {"name": "f"}])
def test_a_tool_choice_of_an_unknown_shape_forces_nothing_for_certain(choice):
    assert needed(tools=TOOLS, tool_choice=choice) == {"tools"}


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ([1, 2, 3], {"token_prompts"}),
        ([[1, 2], [3]], {"token_prompts"}),
        ("[1, 2, 3]", set()),
        (["[1]", "2"], set()),
        ([""], set()),
    ],
)
def test_a_prompt_of_token_ids(prompt, wanted):
    assert needed(Endpoint.COMPLETIONS, prompt=prompt) == wanted


def test_completions_count_logprobs_and_zero_of_them_are_some():
    assert needed(Endpoint.COMPLETIONS, logprobs=0) == {"logprobs"}


def test_the_dialects_have_their_own_fields():
    assert needed(Endpoint.RESPONSES, text={"format": {"type": "json_schema"}}) == {"json_schema"}
    assert needed(Endpoint.RESPONSES, text={"verbosity": "low"}) == set()
    assert needed(Endpoint.RESPONSES, text=7) == set()
    assert needed(Endpoint.MESSAGES, tools=TOOLS, tool_choice={"type": "any"}) == {
        "tools",
        "forced_tools",
    }
    assert needed(Endpoint.MESSAGES, tools=TOOLS, tool_choice={"type": "auto"}) == {"tools"}


class TestImages:
    @pytest.mark.parametrize(
        ("endpoint", "field", "kind"),
        [
            (Endpoint.CHAT, "messages", "image_url"),
            (Endpoint.RESPONSES, "input", "input_image"),
            (Endpoint.MESSAGES, "messages", "image"),
        ],
    )
    def test_a_part_of_that_type(self, endpoint, field, kind):
        turns = parts("Hello", [{"type": "text", "text": "What is it?"}, {"type": kind}])
        assert needed(endpoint, **{field: turns}) == {"images"}

    def test_what_a_tool_gave(self):
        image = {"type": "image"}
        result = {"type": "tool_result", "tool_use_id": "t", "content": [image]}
        turns = [{"role": "user", "content": [result]}]
        assert needed(Endpoint.MESSAGES, messages=turns) == {"images"}
        nested = [{"role": "user", "content": [{"type": "text", "content": [image]}]}]
        assert needed(Endpoint.MESSAGES, messages=nested) == set()
        output = {"type": "function_call_output", "output": [{"type": "input_image"}]}
        assert needed(Endpoint.RESPONSES, input=[output]) == {"images"}

    @pytest.mark.parametrize(
        "content",
        [
            'the key is called "image_url"',
            'say "image_url',
            [{"type": "text", "text": "image_url"}],
            ["image_url"],
            {"type": "image_url"},
        ],
    )
    def test_talk_of_one_is_none(self, content):
        assert needed(messages=parts(content)) == set()


def test_errors_can_name_the_field_of_all_but_the_endpoints():
    endpoints = set(CAPABILITY_OF.values())
    for capability in Capability:
        for endpoint in (Endpoint.CHAT, Endpoint.RESPONSES):
            assert (field_of(capability, endpoint) is None) == (capability in endpoints)
    assert field_of(Capability.JSON_SCHEMA, Endpoint.RESPONSES) == "text"
    assert field_of(Capability.JSON_SCHEMA, Endpoint.CHAT) == "response_format"

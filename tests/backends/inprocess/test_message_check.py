"""Which messages and tools of a chat are taken, and which field is named where one is not."""

import json

import pytest

from backends.base import RequestRefused
from backends.inprocess.message_check import ROLES, check_message, decode_arguments
from backends.inprocess.params import parse_chat
from backends.inprocess.refusals import Code

HELLO = {"role": "user", "content": "hello"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def refused(**fields):
    with pytest.raises(RequestRefused) as caught:
        parse_chat(json.dumps({"messages": [HELLO], **fields}).encode())
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("messages[0].role", {"messages": [{"role": "robot", "content": "x"}]}),
        ("messages[0].role", {"messages": [{"content": "x"}]}),
        ("messages[0].role", {"messages": [{"role": ["user"], "content": "x"}]}),
        ("messages[1].content", {"messages": [HELLO, {"role": "user"}]}),
        ("messages[0].content", {"messages": [{"role": "user", "content": 7}]}),
        (
            "messages[0].content[0].image_url",
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        ),
        (
            "messages[0].content[0]",
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        ),
        ("messages[0].content[0]", {"messages": [{"role": "user", "content": ["x"]}]}),
        (
            "messages[0].content[0].text",
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        ),
        (
            "messages[0].tool_calls[0].function",
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]},
        ),
        (
            "messages[0].tool_calls",
            {"messages": [{"role": "assistant", "tool_calls": 7}]},
        ),
        (
            "messages[0].tool_calls[0].function.arguments",
            {
                "messages": [
                    {
                        "role": "assistant",
                        "tool_calls": [{"function": {"name": "f", "arguments": "{"}}],
                    }
                ]
            },
        ),
        ("tools[0].function", {"tools": [{"type": "function"}]}),
        ("tools[1].function", {"tools": [TOOL, {"function": "f"}]}),
        ("tools[0].function.name", {"tools": [{"function": {}}]}),
        ("tools[0].function.name", {"tools": [{"function": {"name": 7}}]}),
    ],
)
def test_what_is_wrong_with_a_message_or_a_tool_is_told_by_its_path(param, fields):
    error = refused(**fields)
    assert error.param == param
    assert error.message.startswith(f"`{param}`")
    assert error.code in frozenset(Code)


@pytest.mark.parametrize(
    "arguments",
    ["[" * 5000 + "]" * 5000, "[" * 200_000, '{"a":' * 5000 + "1" + "}" * 5000, "9" * 6000],
    ids=["balanced", "open", "objects", "a number"],
)
def test_arguments_that_no_decoder_follows_are_the_clients_fault(arguments):
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    error = refused(messages=[HELLO, {"role": "assistant", "tool_calls": [call]}])
    assert error.param == "messages[1].tool_calls[0].function.arguments"
    assert len(error.message) < 300


@pytest.mark.parametrize("role", sorted(ROLES))
def test_texts_parts_and_images_are_taken_from_everybody(role):
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    parts = [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}, image]
    check_message("messages[0]", {"role": role, "content": "a"})
    check_message("messages[0]", {"role": role, "content": parts})


def test_only_an_assistant_may_say_nothing():
    check_message("messages[0]", {"role": "assistant", "content": None})
    with pytest.raises(RequestRefused, match=r"`messages\[0\].content` is missing"):
        check_message("messages[0]", {"role": "user", "content": None})


def test_arguments_are_values_and_none_are_an_empty_object():
    assert decode_arguments("x", '{"a": [1]}') == {"a": [1]}
    assert decode_arguments("x", "") == {}

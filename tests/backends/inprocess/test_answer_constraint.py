import json

import pytest

from backends.base import RequestRefused
from backends.inprocess import harmony
from backends.inprocess.answer_constraint import constraint_of
from backends.inprocess.constraint import MAX_SCHEMA, Constraint, Thinking
from backends.inprocess.params import parse_chat, parse_completion
from backends.inprocess.tool_call_formats import DEEPSEEK_V3, HERMES, LLAMA3_JSON

SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "integer"}}}


def tool(name, **function):
    return {"type": "function", "function": {"name": name, **function}}


def of(tool_format=HERMES, thinking=None, **fields):
    body = {"messages": [{"role": "user", "content": "x"}], **fields}
    return constraint_of(parse_chat(json.dumps(body).encode()), tool_format, thinking)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"response_format": {"type": "text"}},
        {"tools": [tool("f")]},
        {"tools": [tool("f", strict=False)], "tool_choice": "auto", "parallel_tool_calls": True},
        {"tools": [], "tool_choice": "none"},
    ],
)
def test_most_requests_leave_the_model_free(fields):
    assert of(**fields) is None


def test_where_no_call_is_wanted_none_begins():
    asked = {"tools": [tool("f", strict=True)], "tool_choice": "none"}
    assert of(**asked) == Constraint(text=True, mark="<tool_call>")
    assert not of(**asked).asked_for
    assert of(DEEPSEEK_V3, **asked).mark == DEEPSEEK_V3.start
    thinking = Thinking("<think>", "</think>", opened=False)
    assert of(thinking=thinking, **asked).thinking == thinking
    held = of(**asked, response_format=SCHEMA)
    assert (held.text, held.calls, held.answer.schema) == (False, (), '{"type":"integer"}')


@pytest.mark.parametrize(
    ("tool_format", "thinking", "fields"),
    [
        (None, None, {}),
        (LLAMA3_JSON, None, {}),
        (HERMES, Thinking(harmony.THOUGHT, harmony.ANSWER, opened=False), {}),
        (HERMES, None, {"ignore_eos": True}),
    ],
)
def test_where_that_cannot_be_told_the_model_is_free(tool_format, thinking, fields):
    asked = {"tools": [tool("f")], "tool_choice": "none", **fields}
    assert of(tool_format, thinking, **asked) is None


def test_a_format_without_tools():
    held = of(response_format=SCHEMA)
    assert (held.answer.schema, held.calls, held.text) == ('{"type":"integer"}', (), False)
    completion = json.dumps({"prompt": "x", "response_format": SCHEMA}).encode()
    assert constraint_of(parse_completion(completion), HERMES) == held


def test_a_required_call_is_one_of_all_tools():
    held = of(tools=[tool("f"), tool('g"\n')], tool_choice="required")
    assert not held.text
    assert held.several
    assert [call.begin for call in held.calls] == [
        '\n{"name": "f", "arguments": ',
        '\n{"name": "g\\"\\n", "arguments": ',
    ]
    assert {call.schema for call in held.calls} == {'{"type":"object"}'}
    assert all(call.lenient for call in held.calls)


def test_a_named_tool_is_called_once():
    choice = {"type": "function", "function": {"name": "g"}}
    held = of(tools=[tool("f"), tool("g", parameters={"type": "object"})], tool_choice=choice)
    (call,) = held.calls
    assert call.param == "tools[1].function.parameters"
    assert not held.several


def test_strict_tools_are_held_where_they_are_called():
    held = of(tools=[tool("f", strict=True), tool("g")])
    assert held.text
    assert [call.lenient for call in held.calls] == [False, True]


def test_one_call_at_most():
    held = of(tools=[tool("f")], parallel_tool_calls=False)
    assert held.text
    assert not held.several


def test_a_format_or_a_call():
    held = of(tools=[tool("f")], response_format=SCHEMA)
    assert held.answer is not None
    assert held.calls
    assert not held.text
    forced = of(tools=[tool("f")], response_format=SCHEMA, tool_choice="required")
    assert forced.answer is None


def test_schemas_are_counted_together():
    long = {"type": "object", "description": "x" * (MAX_SCHEMA // 2)}
    many = [tool(name, parameters=long) for name in "fgh"]
    assert of(tools=many[:1], tool_choice="required") is not None
    with pytest.raises(RequestRefused, match="with those before it") as caught:
        of(tools=many, tool_choice="required")
    assert caught.value.param == "tools[1].function.parameters"


def test_a_schema_is_as_long_as_its_bytes():
    umlauts = {"type": "object", "description": "ü" * (MAX_SCHEMA // 2)}
    with pytest.raises(RequestRefused, match="bytes"):
        of(tools=[tool("f", parameters=umlauts)], tool_choice="required")


def test_thinking_goes_first():
    thinking = Thinking("<think>", "</think>", opened=True)
    assert of(thinking=thinking, response_format=SCHEMA).thinking == thinking
    assert of(thinking=thinking) is None


@pytest.mark.parametrize("tool_format", [None, DEEPSEEK_V3])
@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("tool_choice", {"tool_choice": "required"}),
        ("tool_choice", {"tool_choice": {"type": "function", "function": {"name": "f"}}}),
        ("parallel_tool_calls", {"parallel_tool_calls": False}),
        ("response_format", {"response_format": SCHEMA}),
    ],
)
def test_a_model_that_cannot_be_held_to_calls(tool_format, param, fields):
    with pytest.raises(RequestRefused) as caught:
        of(tool_format, tools=[tool("f")], **fields)
    assert caught.value.param == param


def test_strict_alone_is_passed_over_where_it_cannot_be_had():
    assert of(DEEPSEEK_V3, tools=[tool("f", strict=True)]) is None
    assert of(LLAMA3_JSON, tools=[tool("f", strict=True)]) is None
    assert of(LLAMA3_JSON, tools=[tool("f")], tool_choice="required").mark == ""

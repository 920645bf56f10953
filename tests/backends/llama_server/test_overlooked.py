from __future__ import annotations

import json

import pytest

from backends.base import Endpoint, Request, RequestRefused
from backends.llama_server.overlooked import not_overlooked

TOOLS = [{"type": "function", "function": {"name": name}} for name in ("look", "leap")]


def named(name):
    return {"type": "function", "function": {"name": name}}


def asked(endpoint=Endpoint.CHAT, **fields):
    return Request(endpoint=endpoint, body=json.dumps(fields).encode())


def test_a_named_tool_is_the_only_one_and_required():
    request = not_overlooked(asked(tools=TOOLS, tool_choice=named("leap"), x=1))
    wanted = {"tools": TOOLS[1:], "tool_choice": "required", "x": 1}
    assert json.loads(request.body) == wanted


@pytest.mark.parametrize("tools", [{}, {"tools": TOOLS}, {"tools": []}])
def test_a_name_that_no_tool_has_is_refused(tools):
    with pytest.raises(RequestRefused, match="'hop'") as refused:
        not_overlooked(asked(tool_choice=named("hop"), **tools))
    assert (refused.value.status, refused.value.param) == (400, "tool_choice")


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": TOOLS},
        {"tools": TOOLS, "tool_choice": "required"},
        {"tools": TOOLS, "tool_choice": "auto"},
        {"tools": TOOLS, "tool_choice": {"type": "function"}},
        {"tools": TOOLS, "tool_choice": {"function": {"name": 7}}},
        {"tools": "none", "tool_choice": named("leap")},
        {"tools": [{"type": "code"}], "tool_choice": named("leap")},
        {"messages": ['"tool_choice"']},
        {"max_tokens": 1, "max_completion_tokens": None},
        {"max_tokens": "0"},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
        {"response_format": {"type": "json_object", "json_schema": {"schema": 7}}},
        {"response_format": "json_schema", "x": "json_schema"},
    ],
)
def test_all_else_is_as_it_was(fields):
    request = asked(**fields)
    assert not_overlooked(request) is request


def test_other_dialects_and_what_is_no_json_are_the_engines():
    for request in (
        asked(Endpoint.MESSAGES, tools=TOOLS, tool_choice=named("hop")),
        Request(endpoint=Endpoint.CHAT, body=b'{"tool_choice":'),
    ):
        assert not_overlooked(request) is request


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.COMPLETIONS])
def test_no_tokens_are_refused(endpoint, field):
    with pytest.raises(RequestRefused, match="at least 1") as refused:
        not_overlooked(asked(endpoint, **{field: 0}))
    assert (refused.value.status, refused.value.param) == (400, field)
    assert refused.value.code == "integer_below_min_value"


@pytest.mark.parametrize("form", [{}, {"json_schema": {}}, {"json_schema": {"schema": "integer"}}])
def test_a_schema_that_is_none_is_refused(form):
    with pytest.raises(RequestRefused, match="an object") as refused:
        not_overlooked(asked(response_format={"type": "json_schema", **form}))
    assert (refused.value.status, refused.value.param) == (400, "response_format")


@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.COMPLETIONS])
@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("temperature", -1, "decimal_below_min_value"),
        ("temperature", -(10**400), "decimal_below_min_value"),
        ("top_p", 2, "decimal_above_max_value"),
        ("top_p", -0.1, "decimal_below_min_value"),
        ("min_p", 1.1, "decimal_above_max_value"),
        ("stop", 5, "invalid_type"),
        ("stop", ["x", 5], "invalid_type"),
        ("stop", {"x": 1}, "invalid_type"),
        ("logit_bias", 5, "invalid_type"),
        ("logit_bias", {"7": "much"}, "invalid_type"),
        ("logit_bias", {"7": None}, "invalid_type"),
        ("tool_choice", "required", "invalid_value"),
    ],
)
def test_what_it_would_drop_is_refused(endpoint, field, value, code):
    with pytest.raises(RequestRefused, match=f"^`{field}` ") as refused:
        not_overlooked(asked(endpoint, **{field: value}))
    assert (refused.value.status, refused.value.param, refused.value.code) == (400, field, code)


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0, "top_p": 1, "min_p": 0.5},
        {"temperature": None, "top_p": None, "stop": None, "logit_bias": None},
        {"temperature": "warm", "top_p": True},
        {"stop": "x"},
        {"stop": ["x", "y"]},
        {"stop": []},
        {"logit_bias": {"7": -100, "word": 1.5, "9": False}},
        {"logit_bias": [[7, -1], ["word", False]]},
        {"tools": TOOLS, "tool_choice": "required"},
    ],
)
def test_what_it_takes_is_left_to_it(fields):
    request = asked(**fields)
    assert not_overlooked(request) is request

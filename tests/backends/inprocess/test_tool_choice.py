import pytest

from backends.base import RequestRefused
from backends.inprocess.tool_choice import ToolChoice, read_tool_choice

TOOLS = {"f", "g"}
F = {"type": "function", "function": {"name": "f"}}


def allowed(mode, *tools):
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}


@pytest.mark.parametrize(
    ("choice", "read"),
    [
        (None, ToolChoice()),
        ("auto", ToolChoice()),
        ("none", ToolChoice(frozenset())),
        ("required", ToolChoice(forced=True)),
        (F, ToolChoice(frozenset({"f"}), forced=True, named=True)),
        (allowed("auto", F), ToolChoice(frozenset({"f"}))),
        (allowed("required", F), ToolChoice(frozenset({"f"}), forced=True)),
    ],
)
def test_what_a_choice_says(choice, read):
    assert read_tool_choice(choice, TOOLS) == read


@pytest.mark.parametrize(
    ("choice", "tools"),
    [
        ("required", ()),
        ("any", TOOLS),
        (7, TOOLS),
        ({"type": "function"}, TOOLS),
        ({"type": "function", "function": {"name": "h"}}, TOOLS),
        ({"type": "function", "function": {"name": ["f"]}}, TOOLS),
        ({"type": "function", "function": "f"}, TOOLS),
        (allowed("auto"), TOOLS),
        (allowed("sometimes", F), TOOLS),
        (allowed("auto", {"function": {"name": "h"}}), TOOLS),
        (allowed("auto", "f"), TOOLS),
        ({"type": "allowed_tools"}, TOOLS),
    ],
)
def test_what_is_no_choice(choice, tools):
    with pytest.raises(RequestRefused) as caught:
        read_tool_choice(choice, tools)
    assert (caught.value.status, caught.value.param) == (400, "tool_choice")

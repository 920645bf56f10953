import pytest

from backends.inprocess.tool_call_formats import FORMATS, LLAMA3_JSON, tool_names
from backends.inprocess.tool_call_json import WrittenCall

TOOLS = [{"type": "function", "function": {"name": "f"}}]


def test_what_tools_are_called():
    assert tool_names(TOOLS) == {"f"}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_goes_by_its_name_and_refuses_nonsense(name):
    assert FORMATS[name].name == name
    for text in ("", "nonsense", "{}", "[" * 100_000):
        with pytest.raises(ValueError, match="no tool"):
            FORMATS[name].parse(text, TOOLS)


def test_json_without_a_mark_has_to_name_a_tool():
    written = '{"name": "%s", "parameters": {"x": 1}}'
    assert LLAMA3_JSON.parse(written % "f", TOOLS) == (WrittenCall("f", '{"x": 1}'),)
    with pytest.raises(ValueError, match="no tool is called 'Tom'"):
        LLAMA3_JSON.parse(written % "Tom", TOOLS)

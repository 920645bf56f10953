import pytest

from backends.inprocess.tool_calls import ToolCall, ToolCallParser

ONE = '<tool_call>\n{"name": "f", "arguments": {"city": "Paris"}}\n</tool_call>'


def read(text, size):
    """Parse `text` in pieces of `size` characters."""
    parser = ToolCallParser()
    out, calls = "", []
    for at in range(0, len(text), size):
        piece, found = parser.add(text[at : at + size])
        out += piece
        calls += found
    return out + parser.rest(), calls


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
class TestPieces:
    @pytest.mark.parametrize(
        "text",
        [
            "<tool_call>nonsense</tool_call>",
            '<tool_call>{"arguments": {}}</tool_call>',
            '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
            '<tool_call>{"name": "f", "arguments": {"a": }}</tool_call>',
            '<tool_call>{"name": "f"',
            "a <tool> b < c\n",
            "ends with <tool_",
        ],
    )
    def test_what_is_no_call_stays_text(self, text, size):
        assert read(text, size) == (text, [])

    def test_a_call(self, size):
        assert read(ONE, size) == ("", [ToolCall(0, "f", '{"city": "Paris"}')])

    def test_text_before_a_call_and_white_space_around_it(self, size):
        text, calls = read(f"Let me see.\n\n{ONE}\n", size)
        assert text == "Let me see."
        assert len(calls) == 1

    def test_two_calls_are_numbered(self, size):
        text, calls = read(f"{ONE}\n{ONE}", size)
        assert text == ""
        assert [call.index for call in calls] == [0, 1]

    def test_a_call_without_arguments(self, size):
        assert read('<tool_call>{"name": "now"}</tool_call>', size) == (
            "",
            [ToolCall(0, "now", "{}")],
        )


def test_arguments_that_no_decoder_follows_stay_text():
    deep = "[" * 100_000 + "]" * 100_000
    text = f'<tool_call>{{"name": "f", "arguments": {deep}}}</tool_call>'
    assert read(text, len(text)) == (text, [])


def test_text_that_is_no_mark_is_not_held_back():
    assert ToolCallParser().add("2 < 3 and <b>") == ("2 < 3 and <b>", ())

import json
import random

import pytest

from backends.inprocess.tool_call_formats import DEEPSEEK_V3, HERMES, LLAMA3_JSON
from backends.inprocess.tool_calls import ToolCall, ToolCallParser

ONE = '<tool_call>\n{"name": "f", "arguments": {"city": "Paris"}}\n</tool_call>'
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]


def read(text, size, tool_format=HERMES, *, eager=False):
    """Parse `text` in pieces of `size` characters."""
    parser = ToolCallParser(tool_format, TOOLS, eager=eager)
    out, calls = "", []
    for at in range(0, len(text), size):
        piece, found = parser.add(text[at : at + size])
        out += piece
        calls += found
    piece, found = parser.finish()
    return out + piece, [*calls, *found]


def joined(calls):
    """Calls whose pieces are put together, as a client does it."""
    whole = []
    for call in calls:
        if call.name:
            assert call.index == len(whole)
            whole.append([call.name, call.arguments])
        else:
            whole[call.index][1] += call.arguments
    return [(name, arguments) for name, arguments in whole]


def call(name, arguments):
    """A call as Hermes models write it."""
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


@pytest.mark.parametrize("eager", [False, True], ids=["whole", "eager"])
@pytest.mark.parametrize("size", [1, 3, 7, 1000])
class TestHermes:
    @pytest.mark.parametrize(
        "text",
        [
            "<tool_call>nonsense</tool_call>",
            '<tool_call>{"arguments": {}}</tool_call>',
            '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
            '<tool_call>{"name": "f", "arguments": "x"}</tool_call>',
            '<tool_call>{"name": "f", "arguments": "[1]"}</tool_call>',
            '<tool_call>{"name": "unknown", "arguments": {"a": }}</tool_call>',
            '<tool_call>{"name": "f"',
            '<tool_call>{"name": "unknown", "arguments": {"a"',
            "a <tool> b < c\n",
            "ends with <tool_",
            "</tool_call> alone",
            "<tool_call>",
        ],
    )
    def test_what_is_no_call_stays_text(self, text, size, eager):
        assert read(text, size, eager=eager) == (text, [])

    def test_a_call(self, size, eager):
        text, calls = read(ONE, size, eager=eager)
        assert (text, joined(calls)) == ("", [("f", '{"city": "Paris"}')])

    def test_text_around_a_call_stays_without_the_white_space(self, size, eager):
        text, calls = read(f"Let me see.\n\n{ONE}\n", size, eager=eager)
        assert (text, len(joined(calls))) == ("Let me see.", 1)
        text, calls = read(f"{ONE}Done.", size, eager=eager)
        assert (text, len(joined(calls))) == ("Done.", 1)

    @pytest.mark.parametrize("between", ["", "\n", "\n\n"])
    def test_two_calls_are_numbered(self, size, eager, between):
        text, calls = read(f"{ONE}{between}{call('g', '{}')}", size, eager=eager)
        assert (text, joined(calls)) == ("", [("f", '{"city": "Paris"}'), ("g", "{}")])

    def test_a_call_without_arguments(self, size, eager):
        for text in ('<tool_call>{"name": "f"}</tool_call>', call("f", "{}")):
            assert read(text, size, eager=eager)[0] == ""
            assert joined(read(text, size, eager=eager)[1]) == [("f", "{}")]

    def test_a_name_that_was_not_offered_is_a_call_once_it_is_whole(self, size, eager):
        """The client says to the model that there is none: text would end the conversation."""
        assert read(call("h", '{"x": 1}'), size, eager=eager) == (
            "",
            [ToolCall(0, "h", '{"x": 1}')],
        )

    @pytest.mark.parametrize(
        "arguments",
        [
            '{"a": "}{\\"]"}',
            '{"a": {"b": [{}, "\\\\"]}}',
            '{"a": "</tool_call>"}',
            '{"é": "😀\\u00e9"}',
        ],
    )
    def test_arguments_leave_as_they_were_written(self, size, eager, arguments):
        text, calls = read(call("f", arguments), size, eager=eager)
        assert (text, joined(calls)) == ("", [("f", arguments)])

    @pytest.mark.parametrize(
        "written",
        [
            '{"arguments": {"x": 1}, "name": "f"}',
            '{"name": "f", "parameters": {"x": 1}}',
            '{"name": "f", "id": 7, "arguments": {"x": 1}}',
            '{"name": "f", "arguments": {"x": 1}, "id": "}"}',
            '{"name":"f","arguments":{"x": 1}',
            '{"name": "f", "arguments": "{\\"x\\": 1}"}',
        ],
        ids=["turned round", "parameters", "more", "more behind", "no brace", "a string"],
    )
    def test_ways_to_write_it(self, size, eager, written):
        text, calls = read(f"<tool_call>{written}</tool_call> ok", size, eager=eager)
        assert (text.strip(), joined(calls)) == ("ok", [("f", '{"x": 1}')])

    def test_an_end_mark_that_is_forgotten(self, size, eager):
        first = ONE.removesuffix("</tool_call>")
        text, calls = read(f"{first}{ONE}", size, eager=eager)
        assert (text, len(joined(calls))) == ("", 2)
        text, calls = read(f"{first}And so on.", size, eager=eager)
        assert (text, len(joined(calls))) == ("And so on.", 1)
        assert read(first, size, eager=eager)[0] == ""


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
class TestBrokenArguments:
    @pytest.mark.parametrize(
        "arguments", ['{"a": }', '{"a" 1}', "{]", '{"a": 01}', "{" + "[" * 5000 + "]" * 5000 + "}"]
    )
    def test_in_one_piece_such_a_call_is_text(self, size, arguments):
        assert read(call("f", arguments), size) == (call("f", arguments), [])

    def test_while_it_is_written_it_was_a_call_already(self, size):
        text, calls = read(call("f", '{"a": }'), size, eager=True)
        assert (text, joined(calls)) == ("", [("f", '{"a": }')])

    @pytest.mark.parametrize("arguments", ['{"a": [1', '{"a": "}}</tool_call>'])
    def test_cut_off(self, size, arguments):
        written = f'<tool_call>{{"name": "f", "arguments": {arguments}'
        assert read(written, size) == (written, [])
        text, calls = read(written, size, eager=True)
        assert (text, joined(calls)) == ("", [("f", arguments)])

    def test_the_next_call_is_found(self, size):
        broken = call("f", '{"a": }')
        text, calls = read(f"{broken}\n{ONE}", size)
        assert (text, joined(calls)) == (broken, [("f", '{"city": "Paris"}')])


def test_the_first_piece_of_a_streamed_call_is_its_name():
    parser = ToolCallParser(HERMES, TOOLS, eager=True)
    parser.add('<tool_call>\n{"name": "f", "arguments": ')
    assert parser.add("{") == ("", (ToolCall(0, "f", ""), ToolCall(0, "", "{")))
    assert parser.add('"x": 1') == ("", (ToolCall(0, "", '"x": 1'),))
    assert parser.add("}}\n</tool_call>") == ("", (ToolCall(0, "", "}"),))
    assert parser.finish() == ("", ())


def test_text_that_is_no_mark_is_not_held_back():
    parser = ToolCallParser(HERMES, TOOLS, eager=False)
    assert parser.add("2 < 3 and <b>") == ("2 < 3 and <b>", ())


@pytest.mark.parametrize("eager", [False, True], ids=["whole", "eager"])
@pytest.mark.parametrize("size", [1, 3, 7, 1000])
class TestLlama:
    @pytest.mark.parametrize("start", ["", "<|python_tag|>", "\n"])
    def test_a_bare_object_is_a_call(self, size, eager, start):
        written = start + '{"name": "f", "parameters": {"x": {"y": "}"}}}'
        text, calls = read(written, size, LLAMA3_JSON, eager=eager)
        assert (text, joined(calls)) == ("", [("f", '{"x": {"y": "}"}}')])

    @pytest.mark.parametrize("between", ["; ", ";", "\n", "<|python_tag|>"])
    def test_several(self, size, eager, between):
        one, two = '{"name": "f", "parameters": {}}', '{"name": "g", "parameters": {"x": 1}}'
        text, calls = read(one + between + two, size, LLAMA3_JSON, eager=eager)
        assert (text, joined(calls)) == ("", [("f", "{}"), ("g", '{"x": 1}')])

    def test_a_type_in_front(self, size, eager):
        written = '{"type": "function", "name": "f", "parameters": {"x": 1}}'
        assert joined(read(written, size, LLAMA3_JSON, eager=eager)[1]) == [("f", '{"x": 1}')]

    @pytest.mark.parametrize(
        "text",
        [
            '{"name": "Tom", "age": 7}',
            '{"age": 7, "name": "f", "parameters": {}}',
            '{"name": "unknown", "parameters": {}}',
            '{"name": "f"',
            "{}",
            "{ x }",
            'Say {"name": "f", "parameters": {}}',
            '<|python_tag|>brave_search.call(query="x")',
            "<|python_tag|>",
        ],
    )
    def test_what_is_no_call_stays_text(self, size, eager, text):
        assert read(text, size, LLAMA3_JSON, eager=eager) == (text, [])


def test_json_that_is_no_call_is_not_held_back():
    parser = ToolCallParser(LLAMA3_JSON, TOOLS, eager=True)
    assert parser.add('{"age"') == ('{"age"', ())


@pytest.mark.parametrize("size", [1, 7, 1000])
class TestDeepSeek:
    BEGIN, END = DEEPSEEK_V3.start, DEEPSEEK_V3.end
    CALL, SEP, CALL_END = (
        BEGIN.replace("calls", "call"),
        "<\uff5ctool\u2581sep\uff5c>",
        END.replace("calls", "call"),
    )
    V3 = (
        f"{BEGIN}{CALL}function{SEP}f\n```json\n"
        f'{{"x": 1}}\n```{CALL_END}\n{CALL}function{SEP}g\n'
        f"```json\n{{}}\n```{CALL_END}{END}"
    )
    V31 = f'{BEGIN}{CALL}f{SEP}{{"x": 1}}{CALL_END}{CALL}g{SEP}{{}}{CALL_END}{END}'

    @pytest.mark.parametrize("written", [V3, V31])
    def test_calls(self, size, written):
        text, calls = read("Well." + written, size, DEEPSEEK_V3, eager=True)
        assert (text, joined(calls)) == ("Well.", [("f", '{"x": 1}'), ("g", "{}")])
        assert [call.index for call in calls] == [0, 1]

    def test_an_end_mark_that_is_forgotten(self, size):
        text, calls = read(self.V31.removesuffix(self.END), size, DEEPSEEK_V3)
        assert (text, len(calls)) == ("", 2)

    @pytest.mark.parametrize("written", [V3.replace("}", "", 1), V31[:30]])
    def test_what_is_broken_stays_text(self, size, written):
        assert read(written, size, DEEPSEEK_V3) == (written, [])


def test_the_effort_does_not_grow_with_what_is_held():
    """A call is followed, not searched again from its start: 20,000 pieces end soon."""
    parser = ToolCallParser(HERMES, TOOLS, eager=True)
    parser.add('<tool_call>{"name": "f", "arguments": {"x": "')
    pieces = 0
    for _ in range(20_000):
        pieces += len(parser.add("word ")[1])
    assert pieces == 20_000
    assert len(json.dumps(parser._held)) == 2


FRAGMENTS = {
    HERMES: [
        *("<tool_call>", "</tool_call>", "\n", " ", '"', "\\", "hi", "<", "<tool", ",", "}"),
        '{"name": "f", "arguments": {"x": 1}}',
        '{"name": "f", "arguments": {"x": "</tool_call>"}}',
        '{"name": "unknown", "arguments": {}}',
        '{"name": "g", "arg',
        '{"x": [1',
    ],
    LLAMA3_JSON: [
        *("<|python_tag|>", "; ", "\n", "{", "}", '"', "hi", "<", "name", '{"age": 7}'),
        '{"name": "f", "parameters": {"x": 1}}',
        '{"type": "function", "name": "g", "parameters": {}}',
        '{"name": "unknown", "parameters": {}}',
    ],
    DEEPSEEK_V3: [DEEPSEEK_V3.start, DEEPSEEK_V3.end, "hi", " ", "<", TestDeepSeek.V31],
}


@pytest.mark.parametrize("eager", [False, True], ids=["whole", "eager"])
@pytest.mark.parametrize("tool_format", FRAGMENTS, ids=lambda known: known.name)
def test_where_pieces_end_makes_no_difference(tool_format, eager):
    """Whatever a model writes, and however it is cut into tokens."""
    dice = random.Random(1)
    for _ in range(100):
        text = "".join(dice.choices(FRAGMENTS[tool_format], k=dice.randint(1, 9)))
        results = [read(text, size, tool_format, eager=eager) for size in (1, 2, 5, 10_000)]
        first, *others = [(said, joined(calls)) for said, calls in results]
        assert all(other == first for other in others), text

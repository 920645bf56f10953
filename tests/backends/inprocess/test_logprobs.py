import pytest

from backends.inprocess.logprobs import LogprobLine, TokenLogprobs
from backends.inprocess.reasoning import REASONING_FORMATS, ReasoningParser
from backends.inprocess.text import SequenceText
from backends.inprocess.tool_call_formats import HERMES
from backends.inprocess.tool_calls import ToolCallParser

PIECES = [
    b"Hello",
    b" wor",
    b"ld",
    b"\xf0\x9f",
    b"\x98\x80",
    b"<to",
    b"ol_call>",
    b"</think>",
    b"!",
]
TOOLS = [{"type": "function", "function": {"name": "f"}}]


def decode(tokens):
    return b"".join(PIECES[token] for token in tokens).decode("utf-8", "replace")


def of(token):
    return TokenLogprobs(token, -float(token))


def told(text, tokens, *, end=None):
    """For each delta that says something: what it says, and the tokens whose values it has."""
    out = []
    for at, token in enumerate(tokens):
        last = at == len(tokens) - 1
        delta = text.add(
            token, ended=last and end == "eos", cut=last and end == "cut", logprobs=of(token)
        )
        if delta.says_something:
            out.append((delta.reasoning + delta.text, [entry.token for entry in delta.logprobs]))
        else:
            assert delta.logprobs == ()
        if delta.finish is not None:
            break
    return out


def test_each_leaves_with_its_text():
    assert told(SequenceText(0, decode), [0, 1, 2], end="cut") == [
        ("Hello", [0]),
        (" wor", [1]),
        ("ld", [2]),
    ]


def test_the_tokens_of_one_character_leave_together():
    assert told(SequenceText(0, decode), [0, 3, 4, 2]) == [
        ("Hello", [0]),
        ("😀", [3, 4]),
        ("ld", [2]),
    ]


def test_the_end_of_sequence_is_no_text_and_has_none():
    assert told(SequenceText(0, decode), [0, 1], end="eos") == [("Hello", [0]), ("", [])]


def test_half_a_character_at_the_limit_keeps_its_values():
    assert told(SequenceText(0, decode), [0, 3], end="cut") == [("Hello", [0]), ("", [3])]


def test_what_may_be_a_stop_string_waits_with_its_values():
    text = SequenceText(0, decode, stops=["world!"])
    assert told(text, [0, 1, 2, 0], end="cut") == [
        ("Hello", [0]),
        (" ", []),
        ("worldHello", [1, 2, 0]),
    ]


def test_a_stop_string_takes_the_tokens_behind_the_cut_along():
    text = SequenceText(0, decode, stops=["orld!"])
    assert told(text, [0, 1, 2, 8]) == [
        ("Hell", []),
        ("o w", [0]),
        ("", [1]),
    ]


def test_a_mark_that_may_begin_keeps_its_values_back():
    text = SequenceText(0, decode, tool_calls=ToolCallParser(HERMES, TOOLS, eager=True))
    assert told(text, [0, 5, 8], end="cut") == [("Hello", [0]), ("<to!", [5, 8])]


def test_thinking_has_values_too():
    thinking = ReasoningParser(REASONING_FORMATS["qwen3"], opened=True)
    text = SequenceText(0, decode, reasoning=thinking)
    assert told(text, [0, 7, 2], end="cut") == [("Hello", [0]), ("ld", [7, 2])]


@pytest.mark.parametrize("stops", [(), ("zzz",), ("wor",)])
def test_none_is_lost_and_none_is_told_twice(stops):
    text = SequenceText(0, decode, stops=stops)
    tokens = [0, 3, 4, 5, 6, 1, 2, 8]
    seen = [token for _, some in told(text, tokens, end="cut") for token in some]
    assert seen == (tokens if stops != ("wor",) else tokens[:6])


def test_offsets_are_in_characters():
    line = LogprobLine()
    for token, piece in ((0, "Hello"), (3, ""), (4, "😀"), (2, "ld")):
        line.add(of(token), piece)
    assert [entry.offset for entry in line.take(0)] == [0, 5, 5, 6]
    assert line.close() == ()

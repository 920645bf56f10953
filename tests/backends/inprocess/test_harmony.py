import random

import pytest

from backends.inprocess.harmony import HarmonyParser
from backends.inprocess.text import Finish, SequenceText
from backends.inprocess.tool_call_formats import HERMES
from backends.inprocess.tool_calls import ToolCallParser

THOUGHT = "<|channel|>analysis<|message|>Let me see, 1 < 2.<|end|>"
FINAL = "<|start|>assistant<|channel|>final<|message|>Hi, {x}\n"
CALL = "<|channel|>commentary to=functions.f <|constrain|>json<|message|>"
ARGUMENTS = '{"city": "Rome"}'
TOOLS = [{"type": "function", "function": {"name": "f"}}]


def read(text, size):
    """Thinking and answer of `text`, which comes in pieces of `size` characters."""
    parser = HarmonyParser()
    parts = [parser.add(text[at : at + size]) for at in range(0, len(text), size)]
    parts.append(parser.finish())
    return tuple("".join(part) for part in zip(*parts, strict=True))


def call(tail="}</tool_call>"):
    return f'<tool_call>{{"name": "f", "arguments": {ARGUMENTS}{tail}'


@pytest.mark.parametrize("size", [1, 4, 9, 1000])
class TestMessages:
    def test_thinking_and_answer(self, size):
        assert read(THOUGHT + FINAL, size) == ("Let me see, 1 < 2.", "Hi, {x}\n")

    def test_an_answer_at_once(self, size):
        assert read(FINAL.removeprefix("<|start|>assistant"), size) == ("", "Hi, {x}\n")

    @pytest.mark.parametrize("end", ["", "<|return|>", "<|end|>", "<|call|>"])
    def test_the_end_mark_is_no_text(self, size, end):
        assert read(FINAL + end, size)[1] == "Hi, {x}\n"

    @pytest.mark.parametrize(
        "header",
        [CALL, "<|start|>assistant to=functions.f<|channel|>commentary json<|message|>"],
    )
    def test_a_call(self, size, header):
        assert read(header + ARGUMENTS, size) == ("", call(""))
        assert read(header + ARGUMENTS + "<|call|>", size) == ("", call())

    def test_words_before_a_call_are_for_the_user(self, size):
        words = "<|channel|>commentary<|message|>I look it up.<|end|><|start|>assistant"
        assert read(words + CALL + ARGUMENTS, size) == ("", "I look it up." + call(""))

    def test_two_calls(self, size):
        written = CALL + ARGUMENTS + "<|call|><|start|>assistant" + CALL + ARGUMENTS
        assert read(written, size) == ("", call() + call(""))

    def test_what_is_for_a_tool_of_its_makers_is_thinking(self, size):
        written = "<|channel|>analysis to=python code<|message|>print(1)"
        assert read(written, size) == ("print(1)", "")

    @pytest.mark.parametrize(
        "text", ["Hi", "a < b", "", "t", "assistant", "to be", "x" * 999, "a<|message|>b"]
    )
    def test_a_model_that_writes_otherwise(self, size, text):
        assert read(text, size) == ("", text)

    @pytest.mark.parametrize("text", ["<|channel|>anal", "<|start|>assistant", THOUGHT[:-2]])
    def test_cut_off(self, size, text):
        assert read(text, size) in [("", ""), ("Let me see, 1 < 2.<|end", "")]

    def test_a_header_without_an_end(self, size):
        text = "<|channel|>" + "x" * 500
        assert read(text, size) == ("", text)


def test_tokens_of_thinking_are_counted_without_marks():
    parser = HarmonyParser()
    pieces = ["<|channel|>", "analysis", "<|message|>", "one", " two", "<|end|>", "<|start|>"]
    for piece in [*pieces, "assistant", "<|channel|>", "final", "<|message|>", "Hi"]:
        parser.add(piece)
    assert parser.tokens == 2


def test_a_call_is_streamed():
    pieces = [*THOUGHT.split(" "), CALL, '{"city"', ': "Rome"}', "<|call|>"]
    sequence = SequenceText(
        0,
        lambda tokens: "".join(pieces[token] for token in tokens),
        reasoning=HarmonyParser(),
        tool_calls=ToolCallParser(HERMES, TOOLS, eager=True),
    )
    deltas = [sequence.add(token) for token in range(len(pieces))]
    deltas.append(sequence.add(0, ended=True))
    calls = [call for delta in deltas for call in delta.tool_calls]
    assert [(call.name, call.arguments) for call in calls] == [
        ("f", ""),
        ("", '{"city"'),
        ("", ': "Rome"}'),
    ]
    assert "".join(delta.reasoning for delta in deltas) == "Letmesee,1<2."
    assert not any(delta.text for delta in deltas)
    assert deltas[-1].finish is Finish.TOOL_CALLS


def test_where_pieces_end_makes_no_difference():
    """Whatever a model writes, and however it is cut into tokens."""
    fragments = ["<|channel|>", "analysis", "final", " to=functions.f ", "<|message|>", "<|end|>"]
    fragments += ["<|start|>", "assistant", "<|call|>", '{"x": 1}', "hi", "<", "<|", " "]
    dice = random.Random(1)
    for _ in range(200):
        text = "".join(dice.choices(fragments, k=dice.randint(1, 12)))
        assert read(text, 1) == read(text, 3) == read(text, 10_000), text

import json

import pytest

from backends.inprocess.answer_format import AnswerFormat
from backends.inprocess.answer_texts import AnswerTexts
from backends.inprocess.params import parse_chat, parse_completion
from backends.inprocess.reasoning import REASONING_FORMATS
from backends.inprocess.text import Finish

TOOLS = [{"type": "function", "function": {"name": "f"}}]
CALL = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
QWEN = REASONING_FORMATS["qwen3"]
SPECIAL = ord("#")


class Prompts:
    """Every character is a token, and `#` a special one."""

    def decode_all(self, tokens):
        return "".join(map(chr, tokens))

    def decode(self, tokens):
        return self.decode_all(tokens).replace("#", "")


class Runtime:
    """What is asked of a loaded model here."""

    prompts = Prompts()

    def __init__(self, **fields):
        self.answers = AnswerFormat(**fields)


def chat(**fields):
    messages = [{"role": "user", "content": "Hi"}]
    return parse_chat(json.dumps({"messages": messages, **fields}).encode())


def answer(runtime, params, written, *, prompt="<|assistant|>", stream=False):
    """What is made of `written`: thinking, text, names of tools called, and the reason."""
    text = AnswerTexts(runtime, params, stream=stream).new(0, [*map(ord, prompt)])
    deltas = [text.add(ord(letter)) for letter in written]
    deltas.append(text.add(0, ended=True))
    return (
        "".join(delta.reasoning for delta in deltas),
        "".join(delta.text for delta in deltas),
        [call.name for delta in deltas for call in delta.tool_calls if call.name],
        deltas[-1].finish,
    )


class TestTools:
    def test_calls_are_looked_for_where_tools_were_offered(self):
        called = ("", "", ["f"], Finish.TOOL_CALLS)
        assert answer(Runtime(), chat(tools=TOOLS), CALL) == called
        assert answer(Runtime(), chat(tools=TOOLS), CALL, stream=True) == called

    @pytest.mark.parametrize("fields", [{}, {"tools": TOOLS, "tool_choice": "none"}])
    def test_and_nowhere_else(self, fields):
        assert answer(Runtime(), chat(**fields), CALL) == ("", CALL, [], Finish.STOP)

    def test_a_model_without_a_format_has_text(self):
        asked = chat(tools=TOOLS)
        assert answer(Runtime(tools=None), asked, CALL) == ("", CALL, [], Finish.STOP)

    def test_in_a_completion_all_is_text(self):
        runtime = Runtime(reasoning=QWEN)
        written = f"<think>a</think>{CALL}"
        asked = parse_completion(b'{"prompt": "x"}')
        assert answer(runtime, asked, written) == ("", written, [], Finish.STOP)


class TestThinking:
    @pytest.mark.parametrize("prompt", ["<|assistant|><think>\n", "<|assistant|>"])
    def test_it_is_told_apart(self, prompt):
        written = "Hm</think>Hi" if "<think>" in prompt else "<think>Hm</think>Hi"
        got = answer(Runtime(reasoning=QWEN), chat(), written, prompt=prompt)
        assert got == ("Hm", "Hi", [], Finish.STOP)

    @pytest.mark.parametrize("name", ["qwen3", "deepseek_r1"])
    def test_a_prompt_that_closes_it_leaves_none(self, name):
        runtime = Runtime(reasoning=REASONING_FORMATS[name])
        got = answer(runtime, chat(), "Hi", prompt="<|assistant|><think>\n\n</think>\n\n")
        assert got == ("", "Hi", [], Finish.STOP)

    def test_what_a_user_writes_opens_nothing(self):
        got = answer(Runtime(reasoning=QWEN), chat(), "Hi", prompt="Say <think><|assistant|>")
        assert got == ("", "Hi", [], Finish.STOP)

    @pytest.mark.parametrize(
        ("begun", "thought", "said"),
        [("<think>So", "Hm", "Hi"), ("<think>So</think>We", "", "Hm</think>Hi")],
    )
    def test_a_message_that_is_continued(self, begun, thought, said):
        messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": begun}]
        asked = chat(messages=messages, continue_final_message=True)
        got = answer(Runtime(reasoning=QWEN), asked, "Hm</think>Hi", prompt=begun)
        assert got == (thought, said, [], Finish.STOP)

    @pytest.mark.parametrize("stream", [False, True])
    def test_on_channels_with_a_call(self, stream):
        written = (
            "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>commentary "
            'to=functions.f <|constrain|>json<|message|>{"x": 1}'
        )
        runtime = Runtime(reasoning=REASONING_FORMATS["openai_gptoss"])
        got = answer(runtime, chat(tools=TOOLS), written, stream=stream)
        assert got == ("Hm", "", ["f"], Finish.TOOL_CALLS)

    def test_what_may_come_before_an_answer_that_is_held_to_a_schema(self):
        """A model that was held to it, and so wrote no header, is read all the same."""
        runtime = Runtime(reasoning=REASONING_FORMATS["openai_gptoss"])
        thinking = AnswerTexts(runtime, chat(), stream=False).thinking([1])
        written = f"{thinking.start}Hm{thinking.end}{{}}"
        assert answer(runtime, chat(), written) == ("Hm", "{}", [], Finish.STOP)
        assert answer(runtime, chat(), "{}") == ("", "{}", [], Finish.STOP)
        assert answer(runtime, chat(tools=TOOLS), CALL)[2] == ["f"]

    def test_it_can_be_left_out(self):
        got = answer(Runtime(reasoning=QWEN), chat(include_reasoning=False), "<think>Hm</think>Hi")
        assert got == ("", "Hi", [], Finish.STOP)


class TestSpecialTokens:
    def test_they_are_no_text(self):
        hidden = frozenset({SPECIAL})
        for fields in ({}, {"hidden": hidden}):
            assert answer(Runtime(**fields), chat(), "a#b")[1] == "ab"

    def test_those_that_are_marks_of_tools_count_only_with_tools(self):
        runtime = Runtime(hidden=frozenset({SPECIAL, 1}), hidden_with_tools=frozenset({1}))
        assert answer(runtime, chat(), "a#b")[1] == "ab"
        assert answer(runtime, chat(tools=TOOLS), "a#b")[1] == "a#b"

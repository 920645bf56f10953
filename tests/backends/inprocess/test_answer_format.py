import pytest

from backends.base import BackendError
from backends.inprocess.answer_format import (
    answer_format,
    chosen_reasoning,
    chosen_tools,
    infer_reasoning,
    infer_tools,
    unknown_format,
)
from backends.inprocess.reasoning import REASONING_FORMATS, ReasoningFormat, ReasoningParser
from backends.inprocess.tool_call_formats import DEEPSEEK_V3, HERMES, LLAMA3_JSON

QWEN = REASONING_FORMATS["qwen3"]
LLAMA = 'Respond with {"name": function name, "parameters": dictionary}'


@pytest.mark.parametrize(
    ("template", "vocabulary", "found"),
    [
        ("", (), HERMES),
        ("<tool_call>", (), HERMES),
        (LLAMA, ("<|python_tag|>",), LLAMA3_JSON),
        (LLAMA, (), HERMES),
        (LLAMA + "<tool_call>", ("<|python_tag|>",), HERMES),
        (DEEPSEEK_V3.start, (), DEEPSEEK_V3),
    ],
)
def test_tools_are_inferred(template, vocabulary, found):
    assert infer_tools(template, vocabulary) is found


@pytest.mark.parametrize(
    ("template", "vocabulary", "found"),
    [
        ("", ("<think>", "</think>"), QWEN),
        ("", ("[THINK]", "[/THINK]"), REASONING_FORMATS["mistral"]),
        ("", ("<|channel|>", "<|message|>"), REASONING_FORMATS["openai_gptoss"]),
        ("", ("<seed:think>", "</seed:think>"), ReasoningFormat("<seed:think>", "</seed:think>")),
        ("<think></think>", (), QWEN),
    ],
)
def test_thinking_is_inferred(template, vocabulary, found):
    assert infer_reasoning(template, vocabulary) == found


def test_a_model_that_has_the_tokens_and_does_not_think_is_heard():
    parser = ReasoningParser(infer_reasoning("", ("<think>", "</think>")), opened=False)
    assert parser.add("The capital is Paris.") == ("", "The capital is Paris.")


def test_what_the_prompt_opens_is_thinking():
    found = infer_reasoning("", ("<think>", "</think>"))
    parser = ReasoningParser(found, opened=found.opened_by("<|assistant|><think>\n"))
    assert parser.add("Hm.</think>Paris.") == ("Hm.", "Paris.")


def test_half_of_the_marks_are_none():
    assert infer_reasoning("</think>", ("<think>",)) is None


def test_a_format_by_name_or_not_at_all():
    def infer():
        return LLAMA3_JSON

    other = {"other": lambda: DEEPSEEK_V3}
    assert chosen_tools("auto", infer) is LLAMA3_JSON
    assert chosen_tools("none", infer) is None
    assert chosen_tools("hermes", infer, {"hermes": infer}) is HERMES
    assert chosen_tools("other", infer, other) is DEEPSEEK_V3
    with pytest.raises(BackendError, match=r"tool_parser: 'others' .* did you mean 'other'"):
        chosen_tools("others", infer, other)


def test_thinking_by_name_or_not_at_all():
    assert chosen_reasoning("auto", lambda: QWEN) is QWEN
    assert chosen_reasoning("none", lambda: QWEN) is None
    assert chosen_reasoning("qwen3", lambda: None) is REASONING_FORMATS["qwen3"]
    with pytest.raises(BackendError, match=r"reasoning_parser: 'qwen4' .* did you mean 'qwen3'"):
        chosen_reasoning("qwen4", lambda: None)


def test_a_name_that_is_like_no_other():
    message = unknown_format("tool_parser", "x", ["b", "a"]).message
    assert message.endswith("it may be 'auto', 'none', 'a', 'b'")


SPECIAL = {1: "<tool_call>", 2: "<think>", 3: "</think>", 4: "<|end|>"}


class TestSpecialTokens:
    def test_marks_are_kept_where_they_are_looked_for(self):
        found = answer_format(HERMES, QWEN, SPECIAL)
        assert found.hidden == {1, 4}
        assert found.hidden_with_tools == {4}

    def test_of_tools_only(self):
        found = answer_format(HERMES, None, SPECIAL)
        assert found.hidden == frozenset()
        assert found.hidden_with_tools == {2, 3, 4}

    @pytest.mark.parametrize("special", [{}, {4: "<|end|>"}])
    def test_without_such_marks_nobody_has_to_look(self, special):
        found = answer_format(HERMES, QWEN, special)
        assert not found.hidden
        assert not found.hidden_with_tools

    def test_part_of_a_mark(self):
        gemma = REASONING_FORMATS["gemma4"]
        found = answer_format(None, gemma, {7: "<|channel>", 8: "<channel|>", 9: "<eos>"})
        assert found.hidden == {9}

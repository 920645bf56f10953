import pytest

from backends.base import BackendError
from backends.inprocess.tool_call_formats import DEEPSEEK_V3, HERMES, LLAMA3_JSON
from backends.llama_cpp.answer_format import find_format

THINKING = "{{ '<think>' }}{{ '</think>' }}"
LLAMA3 = '{"name": f, "parameters": {}}'


class Tokens:
    """What of a vocabulary is looked at."""

    def __init__(self, *special, text=()):
        self.special = dict(enumerate(special))
        self.named = frozenset({*special, *text})


THINKER = Tokens("<|end|>", "<think>", "</think>", text=["<|python_tag|>"])
PLAIN = Tokens("<|end|>")


def found(template="", tokens=PLAIN, **options):
    return find_format(
        template, tokens, **{"tool_parser": "auto", "reasoning_parser": "auto", **options}
    )


def test_a_template_shows_what_the_model_was_taught():
    assert found().tools is HERMES
    assert found(DEEPSEEK_V3.start).tools is DEEPSEEK_V3
    assert found(LLAMA3, THINKER).tools is LLAMA3_JSON
    assert found(LLAMA3).tools is HERMES
    assert found().reasoning is None
    assert found(THINKING).reasoning.start == "<think>"


def test_marks_that_are_special_tokens_are_not_left_out():
    answers = found(tokens=THINKER)
    assert answers.reasoning.end == "</think>"
    assert answers.hidden == {0}


def test_options_win():
    assert found(tool_parser="llama3_json").tools is LLAMA3_JSON
    assert found(tool_parser="none").tools is None
    assert found(THINKING, reasoning_parser="none").reasoning is None
    assert found(reasoning_parser="deepseek_r1").reasoning.assumed


@pytest.mark.parametrize("option", ["tool_parser", "reasoning_parser"])
def test_an_unknown_name_is_told(option):
    with pytest.raises(BackendError, match=f"{option}: 'hermse' is no format"):
        found(**{option: "hermse"})

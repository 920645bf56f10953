import pytest

from backends.inprocess.reasoning import REASONING_FORMATS, ReasoningParser

QWEN = REASONING_FORMATS["qwen3"]
R1 = REASONING_FORMATS["deepseek_r1"]


def read(text, size, reasoning_format=QWEN, *, opened=False):
    """Thinking and answer of `text`, which comes in pieces of `size` characters."""
    parser = ReasoningParser(reasoning_format, opened=opened)
    parts = [parser.add(text[at : at + size]) for at in range(0, len(text), size)]
    parts.append(parser.finish())
    return tuple("".join(part) for part in zip(*parts, strict=True))


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
class TestParts:
    @pytest.mark.parametrize(
        "text",
        ["<think>\nSo\n 1 < 2.\n</think>\n\nHi\n", "\n<think>So\n 1 < 2.</think>Hi\n"],
    )
    def test_white_space_around_thinking_is_neither(self, size, text):
        assert read(text, size) == ("So\n 1 < 2.", "Hi\n")

    @pytest.mark.parametrize(
        "text", ["Hi", "", "  Hi ", "<thin", "1 <think>2</think>3", "a</think>b", "< think>"]
    )
    def test_an_answer_that_does_not_begin_with_thinking_is_left_alone(self, size, text):
        assert read(text, size) == ("", text)

    def test_later_marks_are_text(self, size):
        text = "<think>a</think>b <think>c</think>"
        assert read(text, size) == ("a", "b <think>c</think>")

    @pytest.mark.parametrize(
        "text", ["Hm</think>Hi", "<think>Hm</think>Hi", "\n\nHm\n</think>\nHi"]
    )
    @pytest.mark.parametrize(("reasoning_format", "opened"), [(QWEN, True), (R1, False)])
    def test_thinking_that_the_prompt_opened(self, size, text, reasoning_format, opened):
        assert read(text, size, reasoning_format, opened=opened) == ("Hm", "Hi")

    @pytest.mark.parametrize("end", ["", "\n", "</thi"])
    def test_thinking_that_does_not_end_is_all_there_is(self, size, end):
        assert read(f"<think>Hm{end}", size) == (f"Hm{end}".rstrip(), "")

    def test_empty_thinking(self, size):
        assert read("<think>\n\n</think>\n\nHi", size) == ("", "Hi")
        assert read("<think></think>", size) == ("", "")

    def test_every_format(self, size):
        for known in REASONING_FORMATS.values():
            text = f"{known.start} Hm {known.end} Hi"
            assert read(text, size, known) == ("Hm", "Hi")


def test_thinking_leaves_as_it_comes():
    parser = ReasoningParser(QWEN, opened=True)
    assert parser.add("I thi") == ("I thi", "")
    assert parser.add("nk <") == ("nk", "")
    assert parser.add("3") == (" <3", "")


def test_tokens_are_counted_without_the_marks():
    parser = ReasoningParser(QWEN, opened=False)
    for piece in ("<think>", "one", " two", "", "</think>", "Hi", " there"):
        parser.add(piece)
    assert parser.tokens == 3
    assert parser.over


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [
        ("<|assistant|><think>\n", True),
        ("<|assistant|>\n<think>", True),
        ("<|assistant|>\n", False),
        ("Say <think><|end|>\n<|assistant|>\n", False),
        ("<think>\n\n</think>\n\n", False),
    ],
)
def test_what_the_end_of_a_prompt_opens(prompt, opened):
    assert QWEN.opened_by(prompt) is opened


@pytest.mark.parametrize(
    ("message", "open_"),
    [("<think>So", True), ("<think>So</think>Hi", False), ("Hi", False), ("", False)],
)
def test_a_message_that_breaks_off_while_thinking(message, open_):
    assert QWEN.left_open(message) is open_

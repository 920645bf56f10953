import pytest
from tokenizers import Tokenizer, decoders, models

from backends.inprocess.reasoning import REASONING_FORMATS, ReasoningParser
from backends.inprocess.text import Delta, Detokenizer, Finish, SequenceText, StopStrings
from backends.inprocess.tool_call_formats import HERMES
from backends.inprocess.tool_calls import ToolCall, ToolCallParser

TOOLS = [{"type": "function", "function": {"name": "f"}}]


def calls(*, eager=False):
    return ToolCallParser(HERMES, TOOLS, eager=eager)


def thinking(*, opened=False):
    return ReasoningParser(REASONING_FORMATS["qwen3"], opened=opened)


def letters(tokens):
    """A vocabulary in which every code point is a token."""
    return "".join(map(chr, tokens))


def as_bytes():
    """The byte-level vocabulary that most models have, with one token per byte."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    names = {byte: chr(byte) for byte in printable}
    names |= {byte: chr(256 + place) for place, byte in enumerate(others)}
    tokenizer = Tokenizer(models.BPE({name: byte for byte, name in names.items()}, []))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer.decode


def say(text, *, pieces, **options):
    """Deltas for a sequence that says `pieces` and ends; one token per piece."""
    vocabulary = list(dict.fromkeys(pieces))
    sequence = SequenceText(
        0, lambda tokens: "".join(vocabulary[token] for token in tokens), **options
    )
    deltas = []
    for piece in pieces:
        deltas.append(sequence.add(vocabulary.index(piece)))
        if deltas[-1].finish:
            break
    else:
        deltas.append(sequence.add(0, ended=True))
    assert "".join(delta.text for delta in deltas) == text
    assert all(delta.finish is None for delta in deltas[:-1])
    return deltas


class TestDetokenizer:
    def test_a_character_split_over_tokens_leaves_whole(self):
        detokenizer = Detokenizer(as_bytes())
        assert [detokenizer.add(byte) for byte in "aé😀!".encode()] == [
            *("a", "", "é"),
            *("", "", "", "😀"),
            "!",
        ]

    def test_bytes_that_are_no_character_do_not_hold_up_the_rest(self):
        detokenizer = Detokenizer(as_bytes())
        raw = b"\xff\xfe\xff\xfe\xff ok"
        text = "".join(detokenizer.add(byte) for byte in raw)
        assert text == raw.decode(errors="replace")

    def test_tokens_that_straddle_characters(self):
        raw = "😀😀😀".encode()
        tokens = [raw[:2], raw[2:5], raw[5:9], raw[9:]]
        detokenizer = Detokenizer(
            lambda ids: b"".join(tokens[i] for i in ids).decode(errors="replace")
        )
        assert "".join(detokenizer.add(token) for token in range(4)) == "😀😀😀"

    def test_a_decoder_that_spoils_a_run_of_bytes_while_it_is_open(self):
        """As the byte fallback of SentencePiece models does."""
        raw = "é😀".encode()

        def decode(tokens):
            run = bytes(raw[token] for token in tokens)
            try:
                return run.decode()
            except UnicodeDecodeError:
                return "\ufffd" * len(run)

        detokenizer = Detokenizer(decode)
        assert [detokenizer.add(token) for token in range(6)] == ["", "é", "", "", "", "😀"]

    def test_whole_characters_held_back_come_at_the_end(self):
        raw = "é😀".encode()
        tokens = [raw[:4], raw[4:]]
        detokenizer = Detokenizer(
            lambda ids: b"".join(tokens[i] for i in ids).decode(errors="replace")
        )
        assert detokenizer.add(0) == ""
        assert detokenizer.rest() == "é"

    def test_a_space_that_depends_on_the_neighbour_comes_out_as_if_decoded_at_once(self):
        words = ["▁Once", "▁upon", "▁a", "▁time"]

        def decode(tokens):
            return "".join(words[token] for token in tokens).replace("▁", " ").removeprefix(" ")

        detokenizer = Detokenizer(decode)
        assert [detokenizer.add(token) for token in range(4)] == ["Once", " upon", " a", " time"]

    def test_the_window_does_not_grow_with_the_text(self):
        widths = []

        def decode(tokens):
            widths.append(len(tokens))
            return letters(tokens)

        detokenizer = Detokenizer(decode)
        for letter in "a long text, letter by letter":
            detokenizer.add(ord(letter))
        assert max(widths) <= 2


class TestStopStrings:
    @pytest.mark.parametrize(
        ("stops", "pieces", "text"),
        [
            (["END"], ["some E", "N", "D more"], "some "),
            (["END"], ["some END more"], "some "),
            (["aab"], ["a", "a", "a", "b"], "a"),
            (["\n\n"], ["one\n", "two\n", "\nthree"], "one\ntwo"),
            (["xyz", "b"], ["a", "b", "c"], "a"),
            (["bcd", "ab"], ["abcd"], ""),
        ],
    )
    def test_text_ends_before_the_first_stop_string(self, stops, pieces, text):
        matcher = StopStrings(stops)
        out = ""
        for piece in pieces:
            safe, stopped = matcher.add(piece)
            out += safe
            if stopped:
                break
        assert (out, stopped) == (text, True)

    def test_what_may_be_a_stop_string_is_held_back_until_it_is_not(self):
        matcher = StopStrings(["<end>"])
        assert matcher.add("a <e") == ("a ", False)
        assert matcher.add("n") == ("", False)
        assert matcher.add("try") == ("<entry", False)
        assert matcher.rest() == ""

    def test_what_is_held_back_at_the_end_is_text(self):
        matcher = StopStrings(["<end>"])
        matcher.add("a <e")
        assert matcher.rest() == "<e"


class TestSequenceText:
    def test_the_end_token_is_counted_but_not_said(self):
        deltas = say("Hi there", pieces=["Hi", " there"])
        assert deltas[-1] == Delta(0, finish=Finish.STOP, tokens=3)

    def test_held_back_text_comes_when_the_sequence_ends_on_its_own(self):
        assert say("a <e", pieces=["a", " <e"], stops=["<end>"])[-1].text == "<e"

    def test_a_stop_string_across_tokens_ends_the_sequence(self):
        deltas = say("one ", pieces=["one ", "tw", "o", " three"], stops=["two"])
        assert deltas[-1] == Delta(0, finish=Finish.STOP, tokens=3, stop_reason="two")

    def test_the_limit_on_tokens_gives_what_was_held_back(self):
        sequence = SequenceText(3, letters, stops=["ab"])
        assert sequence.add(ord("a"), cut=True) == Delta(3, "a", (), Finish.LENGTH, 1)

    def test_a_stop_string_in_the_last_token_allowed_is_a_stop(self):
        sequence = SequenceText(0, letters, stops=["a"])
        assert sequence.add(ord("a"), cut=True).finish is Finish.STOP

    def test_an_unfinished_character_at_the_end_is_dropped(self):
        sequence = SequenceText(0, as_bytes())
        first, second = "é".encode()
        assert sequence.add(first).text == ""
        assert sequence.add(second).text == "é"
        assert sequence.add(first, cut=True) == Delta(0, "", (), Finish.LENGTH, 3)

    def test_a_tool_call_is_no_text_and_changes_the_reason(self):
        deltas = say(
            "",
            pieces=["<tool", '_call>\n{"name": "f", ', '"arguments": {"x": 1}}\n</tool_call>'],
            tool_calls=calls(),
        )
        called = [call for delta in deltas for call in delta.tool_calls]
        assert called == [ToolCall(0, "f", '{"x": 1}')]
        assert deltas[-1].finish is Finish.TOOL_CALLS

    def test_a_tool_call_cut_off_is_text_and_the_reason_stays(self):
        sequence = SequenceText(0, letters, tool_calls=calls())
        for letter in "<tool_call>{":
            sequence.add(ord(letter))
        assert sequence.add(ord("}"), cut=True) == Delta(0, "<tool_call>{}", (), Finish.LENGTH, 13)

    def test_a_streamed_call_leaves_as_it_is_written(self):
        deltas = say(
            "",
            pieces=[
                "<tool_call>",
                '{"name": "f", "argu',
                'ments": {"x"',
                ": 1",
                "}}",
                "</tool_call>",
            ],
            tool_calls=calls(eager=True),
        )
        assert [delta.tool_calls for delta in deltas if delta.tool_calls] == [
            (ToolCall(0, "f", ""), ToolCall(0, "", '{"x"')),
            (ToolCall(0, "", ": 1"),),
            (ToolCall(0, "", "}"),),
        ]
        assert deltas[-1].finish is Finish.TOOL_CALLS

    def test_a_streamed_call_that_is_cut_off_has_the_reason_length(self):
        sequence = SequenceText(0, letters, tool_calls=calls(eager=True))
        for letter in '<tool_call>{"name": "f", "arguments": {"x":':
            sequence.add(ord(letter))
        last = sequence.add(ord(" "), cut=True)
        assert (last.text, last.tool_calls) == ("", (ToolCall(0, "", " "),))
        assert last.finish is Finish.LENGTH

    def test_thinking_has_neither_stop_strings_nor_calls(self):
        thought = 'stop <tool_call>{"name": "f", "arguments": {}}</tool_call>'
        deltas = say(
            "Hi",
            pieces=["<think>", thought, "</think>", "Hi", " stop", "more"],
            stops=[" stop"],
            tool_calls=calls(),
            reasoning=thinking(),
        )
        assert "".join(delta.reasoning for delta in deltas) == thought
        assert (deltas[-1].finish, deltas[-1].reasoning_tokens) == (Finish.STOP, 1)

    def test_thinking_that_is_cut_off_is_no_text(self):
        sequence = SequenceText(0, letters, reasoning=thinking(opened=True))
        for letter in "I <":
            sequence.add(ord(letter))
        assert sequence.add(ord("/"), cut=True) == Delta(0, "", (), Finish.LENGTH, 4, " </", 4)

    def test_thinking_that_nobody_wants_is_counted(self):
        deltas = say(
            "Hi",
            pieces=["<think>", "Hm", "</think>", "Hi"],
            reasoning=thinking(),
            show_reasoning=False,
        )
        assert not any(delta.reasoning for delta in deltas)
        assert deltas[-1].reasoning_tokens == 1

    def test_special_tokens_are_text_inside_a_call_only(self):
        words = ["a", "<|x|>", '<tool_call>{"name": "f", "arguments": {"b": "', '"}}</tool_call>']
        sequence = SequenceText(
            0,
            lambda tokens: "".join(words[token] for token in tokens),
            tool_calls=calls(),
            hidden=frozenset({1}),
        )
        deltas = [sequence.add(token) for token in (1, 0, 1, 2, 1, 3, 1)]
        assert "".join(delta.text for delta in deltas) == "a"
        assert [call for delta in deltas for call in delta.tool_calls] == [
            ToolCall(0, "f", '{"b": "<|x|>"}')
        ]

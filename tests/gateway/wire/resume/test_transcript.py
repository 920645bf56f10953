from __future__ import annotations

import pytest

from gateway.wire.resume.choices import ChoicesTranscript
from gateway.wire.resume.transcript import MAX_TEXT, DivergedError, Had, Remaining
from tests.support.upstream import text


def had(**texts):
    made = Had()
    for channel, said in texts.items():
        made.add(channel, said)
    return made


class TestRemaining:
    def test_gives_what_is_new(self):
        left = Remaining(had(content="Once upon"))
        assert [left.take("content", one) for one in ("On", "ce", " upon a", " time")] == [
            "", "", " a", " time",
        ]  # fmt: skip

    def test_counts_what_is_left(self):
        left = Remaining(had(content="Once", thinking="Hm"))
        left.take("content", "On")
        assert left.characters == 4
        left.take("thinking", "Hmm")
        assert left.characters == 2

    def test_a_channel_that_was_not_there_is_new(self):
        assert Remaining(had(content="x")).take("other", "y") == "y"

    def test_another_text_is_told_where(self):
        left = Remaining(had(content="Once upon"))
        left.take("content", "Once")
        with pytest.raises(DivergedError, match="after 4 characters of content"):
            left.take("content", " umm")


def test_of_a_long_answer_only_its_text_is_kept():
    transcript = ChoicesTranscript()
    block = text("word ")
    for _ in range(2000):
        transcript.add(block)
    kept = sum(map(len, transcript._unread))
    assert kept < 100_000
    assert transcript.plain_text == "word " * 2000
    assert transcript.had.pieces == 2000


def test_of_a_very_long_one_nothing_is():
    transcript = ChoicesTranscript()
    block = text("x" * 50_000)
    while not transcript.overfull:
        transcript.add(block)
    for _ in range(10):
        transcript.add(block)
    assert transcript.had.size == 0
    assert not transcript._unread
    assert MAX_TEXT < 50_000 * 30


def test_comments_pass():
    splice = ChoicesTranscript().splice()
    assert splice.feed(b": keep-alive\n\n") == b": keep-alive\n\n"


def test_what_cannot_be_read_ends_no_stream_that_is_well():
    transcript = ChoicesTranscript()
    transcript.add(b'data: {"choices": [{"delta": {"content": "a"}}], "more": "\\ud800"}\n\n')
    assert transcript.had.text("content") == ""
    assert transcript.incomparable


def test_nor_is_it_an_error_of_the_gateways_in_another_try():
    transcript = ChoicesTranscript()
    transcript.add(b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n')
    with pytest.raises(DivergedError, match="cannot be compared"):
        transcript.splice().feed(b'data: {"choices": [{"delta": {"content": "\\ud800"}}]}\n\n')


def test_pieces_do_not_stay_what_they_were():
    kept = Had()
    for _ in range(3):
        for letter in "Once":
            kept.add("content", letter)
        kept.pack()
    assert kept._texts == {"content": ["Once"] * 3}
    assert kept.text("content") == "Once" * 3
    kept.add("content", "!")
    kept.pack()
    kept.pack()
    assert kept.text("content") == "Once" * 3 + "!"


def test_an_answer_of_many_calls_without_a_word_is_bounded_too():
    transcript = ChoicesTranscript()
    for number in range(MAX_TEXT):
        call = b'{"index": %d, "function": {"name": "f"}}' % number
        transcript.add(b'data: {"choices": [{"delta": {"tool_calls": [%s]}}]}\n\n' % call)
        if transcript.overfull:
            break
    assert number < MAX_TEXT // 8

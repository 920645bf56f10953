from __future__ import annotations

from backends.launch.life import last_words


def test_lines_that_tell_of_an_error_come_before_the_last_ones():
    lines = ("loading", "E: failed to load adapter x", "slot print_timing: 1", "slot release")
    assert last_words(lines) == "E: failed to load adapter x"


def test_without_any_the_last_ones_are_told_each_once_and_in_short():
    assert last_words(("a", "b", "c", "c", "d")) == "b | c | d"
    assert len(last_words(("x" * 1000,))) < 250
    assert last_words(()) == ""

from __future__ import annotations

import pytest

from gateway.config.names import Glob, NameIndex


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("qwen-*", "qwen-8b", True),
        ("qwen-*", "qwen-", True),
        ("qwen-*", "qwen", False),
        ("*", "", True),
        ("*-8b", "qwen-8b", True),
        ("*-8b", "qwen-8b-q4", False),
        ("a*b*c", "aXbYc", True),
        ("a*b*c", "acb", False),
        ("ab*ba", "aba", False),  # head and tail may not share characters
        ("a*b*b", "ab", False),
        ("a**b", "ab", True),
        ("exact", "exact", True),
        ("exact", "exactly", False),
        ("a.c*", "abc", False),  # nothing but the asterisk is special
        ("[ab]*", "a", False),
    ],
)
def test_a_glob_fits_whole_names(pattern: str, text: str, fits: bool) -> None:
    assert Glob(pattern).matches(text) is fits


def test_an_exact_name_comes_before_globs_and_the_most_specific_glob_first() -> None:
    index = NameIndex([("*", 1), ("qwen-*", 2), ("qwen-*-q4", 3), ("qwen-8b", 4)])
    assert index.find("qwen-8b") == 4
    assert index.find("qwen-8b-q4") == 3
    assert index.find("qwen-72b") == 2
    assert index.find("llama") == 1


def test_of_equals_the_first_wins() -> None:
    index = NameIndex([("a", 1), ("a", 2), ("x-*", 3), ("*-y", 4)])
    assert index.find("a") == 1
    assert index.find("x-y") == 3


def test_what_nothing_fits_is_none() -> None:
    assert NameIndex([("a", 1)]).find("b") is None


def test_a_glob_with_many_wildcards_is_not_slow_on_a_long_name() -> None:
    glob = Glob("*a" * 100 + "*b")  # a backtracking matcher would not end
    assert glob.matches("a" * 100_000) is False

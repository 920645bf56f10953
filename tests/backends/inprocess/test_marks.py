import pytest

from backends.inprocess.marks import unfinished


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("", 0),
        ("abc", 3),
        ("a <", 2),
        ("a <e", 2),
        ("a <en", 2),
        ("a <<e", 3),
        ("<e>", 3),
        ("<x", 2),
    ],
)
def test_where_a_mark_may_begin(text, safe):
    assert unfinished(text, "<end>") == safe


def test_a_mark_that_is_all_there_is_not_unfinished():
    assert unfinished("a<end>", "<end>") == 6


def test_a_mark_that_begins_again_within_itself():
    assert unfinished("aab", "aabaac") == 0
    assert unfinished("aabaab", "aabaac") == 3

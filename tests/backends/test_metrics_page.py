from __future__ import annotations

import pytest

from backends.metrics_page import mean, total

PAGE = b"""# HELP made tokens
# TYPE made counter
made{model="a b{}",rank="0"} 3.0
made{model="c"} 1e1 1700000000
made_created 5
plain 7
broken
broken x
"""


@pytest.mark.parametrize(
    ("names", "sum_of_them"),
    [
        ((b"made",), 13.0),
        ((b"made", b"plain"), 20.0),
        ((b"plain",), 7.0),
        ((b"broken",), None),
        ((b"other",), None),
        ((), None),
    ],
)
def test_series_of_a_name_are_added_up(names, sum_of_them):
    assert total(PAGE, names) == sum_of_them


def test_what_is_no_page_has_none():
    assert total(b"\xff\x00{}", (b"made",)) is None


def test_shares_of_several_parts_are_averaged():
    assert mean(PAGE, (b"made",)) == 6.5
    assert mean(PAGE, (b"other",)) is None

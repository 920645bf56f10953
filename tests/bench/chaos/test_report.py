"""What a run is worth, by its exit code."""

from __future__ import annotations

from collections import Counter

import pytest

from bench.chaos.judge import HONEST, Verdict
from bench.chaos.report import tell
from bench.chaos.run import KINDS, Result
from bench.chaos.vitals import Vitals

REST = Vitals(rss_mb=100, files=20, threads=10, processes=2, in_flight=0)


def code(bugs=(), after=REST, **verdicts):
    counted = Counter({Verdict[name.upper()]: number for name, number in verdicts.items()})
    result = Result(
        seconds=60.0,
        verdicts={KINDS[0]: counted},
        slips=[],
        before=REST,
        after=after,
        attempts=Counter(),
        rss_mb=[100.0],
        bugs=list(bugs),
    )
    return tell(result, 1, grow_mb=30)


def test_right_answers_and_honest_errors_are_fine():
    assert code(right=10) == 0
    assert code(right=10, refused=5, broken=5) == 0


@pytest.mark.parametrize("one", sorted(set(Verdict) - HONEST))
def test_one_dishonest_answer_among_many_is_not(one):
    assert code(right=1000, **{one.name: 1}) == 1


def test_bugs_and_growth_are_not():
    assert code(right=10, bugs=["Traceback"]) == 1
    assert code(right=10, after=Vitals(100, 20, 10, 2, in_flight=1)) == 1


def test_a_run_in_which_hardly_anything_is_answered_shows_nothing():
    assert code() == 1
    assert code(refused=10) == 1
    assert code(right=4, refused=6) == 1

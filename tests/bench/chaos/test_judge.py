"""Each way in which a request can end, by its name."""

from __future__ import annotations

import pytest

from bench.chaos.judge import HONEST, Heard, Right, Verdict, judge

RIGHT = Right("Once upon a time", "stop", 4)
WHOLE = {"status": 200, "text": RIGHT.text, "finish": "stop", "done": True, "tokens": 4}


def heard(**fields):
    return Heard(**{**WHOLE, **fields})


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({}, Verdict.RIGHT),
        ({"tokens": 5}, Verdict.MISCOUNTED),
        ({"tokens": None}, Verdict.MISCOUNTED),
        ({"text": "Once upon a"}, Verdict.TRUNCATED),
        ({"text": "Once upon a", "finish": "length"}, Verdict.TRUNCATED),
        ({"done": False}, Verdict.TRUNCATED),
        ({"text": "Once upon a a time"}, Verdict.WRONG),
        ({"text": "Twice"}, Verdict.WRONG),
        ({"finish": "length"}, Verdict.WRONG),
        ({"text": "Once", "done": False, "error": "no"}, Verdict.BROKEN),
        ({"text": "Once", "error": "no"}, Verdict.WRONG),
        ({"text": "Twice", "done": False, "error": "no"}, Verdict.WRONG),
        ({"text": "Once", "done": False, "cut": "reset"}, Verdict.CUT),
        ({"hung": True}, Verdict.HUNG),
        ({"odd": "it begins twice"}, Verdict.ODD),
        ({"status": 503, "text": "", "done": False, "error": "no"}, Verdict.REFUSED),
        ({"status": 503, "text": "<html>", "done": False}, Verdict.BLAMED),
        ({"status": 400, "text": "", "done": False, "error": "no"}, Verdict.BLAMED),
        ({"status": 500, "text": "", "done": False, "error": "a bug"}, Verdict.BLAMED),
    ],
)
def test_verdicts(fields, verdict):
    assert judge(heard(**fields), RIGHT) is verdict


def test_what_is_honest():
    assert {Verdict.RIGHT, Verdict.REFUSED, Verdict.BROKEN} == HONEST

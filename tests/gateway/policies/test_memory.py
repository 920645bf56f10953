from __future__ import annotations

from gateway.policies.memory import forget_absent
from tests.support.candidates import replicas


def test_a_few_that_are_away_are_remembered():
    remembered = {"a": 1, "away": 2}
    forget_absent(remembered, replicas("ab"))
    assert remembered == {"a": 1, "away": 2}


def test_many_that_are_away_are_not():
    remembered = {"a": 1} | {f"gone-{number}": 0 for number in range(40)}
    forget_absent(remembered, replicas("ab"))
    assert remembered == {"a": 1}

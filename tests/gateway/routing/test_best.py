from __future__ import annotations

from backends.readiness import Condition, Readiness
from gateway.routing.best import best_of
from gateway.routing.breaker import THRESHOLD
from gateway.routing.replica import Replica


def replica(name, ready=True, condition=Condition.UNHEALTHY):
    one = Replica("engine", object(), f"http://{name}")
    one.observe(Readiness(ready, "" if ready else "down", condition))
    return one


def ejected(name, now):
    one = replica(name)
    for _ in range(THRESHOLD):
        one.failed(one.breaker.sent(now), now, "reset")
    return one


def limited(name, until):
    one = replica(name)
    one.leave_alone(until)
    return one


def test_the_healthy_ones_where_there_are_some():
    a, b = replica("a"), replica("b")
    assert best_of([ejected("c", 0.0), a, limited("d", 9.0), b], 0.0) == [a, b]


def test_an_ejected_one_is_better_than_one_that_does_not_answer_probes():
    one = ejected("a", 0.0)
    wrong = replica("b", ready=False, condition=Condition.MISCONFIGURED)
    assert best_of([replica("c", ready=False), wrong, one, limited("d", 1.0)], 0.0) == [one]


def test_of_those_that_are_ejected_the_one_that_was_the_longest():
    early, late = ejected("a", 0.0), ejected("b", 0.5)
    assert best_of([late, early], 0.6) == [early]


def test_of_those_that_are_rate_limited_the_one_that_may_be_asked_first():
    soon, late = limited("a", 10.0), limited("b", 20.0)
    assert best_of([late, soon], 0.0) == [soon]


def test_what_only_a_person_can_mend_comes_last():
    wrong = replica("a", ready=False, condition=Condition.MISCONFIGURED)
    loading = replica("b", ready=False, condition=Condition.LOADING)
    assert best_of([wrong, loading], 0.0) == [loading]
    assert best_of([wrong], 0.0) == [wrong]


def test_equals_are_all_there_is_to_choose_among():
    down = [replica("a", ready=False), replica("b", ready=False)]
    assert best_of(down, 0.0) == down
    assert best_of([], 0.0) == []

from __future__ import annotations

from backends.readiness import Condition, Readiness
from gateway.control.departed import REMEMBERED, Departed
from gateway.routing.replica import Replica


def replica(number):
    one = Replica("engine", object(), f"http://10.0.{number // 256}.{number % 256}")
    one.observe(Readiness(True))
    return one


def named(*replicas):
    return {one.id: one for one in replicas}


def test_who_stays_is_left_alone_and_who_goes_drains():
    departed, stays, goes = Departed(), replica(1), replica(2)
    work = goes.load.begin(0.0, 10)
    departed.let_go(named(stays, goes), [stays])
    assert stays.condition(0.0) is Condition.READY
    assert goes.condition(0.0) is Condition.DRAINING
    assert departed.draining == [goes]
    work.end()
    assert departed.draining == []


def test_who_comes_back_has_its_counters_and_is_looked_at_first():
    departed, one = Departed(), replica(1)
    one.load.begin(0.0, 10).end()
    departed.let_go(named(one), [])
    back = departed.take_back(one.id)
    assert back is one
    assert one.load.prompt_tokens == 10
    assert one.condition(0.0) is Condition.LOADING
    assert departed.take_back(one.id) is None


def test_those_without_requests_are_bounded_the_others_never_forgotten():
    departed = Departed()
    busy = replica(0)
    busy.load.begin(0.0, 1)
    departed.let_go(named(busy), [])
    for number in range(1, REMEMBERED + 10):
        departed.let_go(named(replica(number)), [])
    assert departed.draining == [busy]
    assert departed.take_back(replica(1).id) is None
    assert departed.take_back(replica(REMEMBERED + 9).id) is not None

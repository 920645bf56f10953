from __future__ import annotations

import pytest

from backends.base import Readiness
from backends.options import SlowStart
from backends.units import Timeout
from gateway.routing.breaker import THRESHOLD
from gateway.routing.replica import Replica


def replica(address="http://10.0.0.1:8000"):
    return Replica("engine", object(), address)


@pytest.mark.parametrize(
    ("address", "id_"),
    [
        ("http://10.0.0.1:8000", "engine@10.0.0.1:8000"),
        ("http://10.0.0.1:8000/v1", "engine@10.0.0.1:8000"),
        ("http://10.0.0.1:8000/v1/", "engine@10.0.0.1:8000"),
        ("unix:/run/engine.sock", "engine@unix:/run/engine.sock"),
        ("in-process", "engine@in-process"),
    ],
)
def test_its_id_is_short_and_does_not_depend_on_spelling(address, id_):
    assert replica(address).id == id_


def test_before_anybody_has_looked_it_takes_no_traffic():
    assert not replica().may_take_traffic(0.0)
    assert replica().why_not(0.0) == "not probed yet"


def test_it_takes_traffic_while_ready_and_not_broken():
    one = replica()
    one.observe(Readiness(True))
    assert one.may_take_traffic(0.0)
    assert one.why_not(0.0) == ""
    for _ in range(THRESHOLD):
        one.breaker.failed(one.breaker.sent(0.0), 0.0)
    assert not one.may_take_traffic(0.0)
    assert "failures" in one.why_not(0.0)
    one.observe(Readiness(False, "HTTP 503"))
    assert one.why_not(0.0) == "HTTP 503"


def test_coming_back_is_a_clean_record_and_staying_is_not():
    one = replica()
    one.observe(Readiness(True))
    for _ in range(THRESHOLD):
        one.breaker.failed(one.breaker.sent(0.0), 0.0)
    one.observe(Readiness(True))
    assert not one.may_take_traffic(0.0)
    one.observe(Readiness(False, "gone"))
    one.observe(Readiness(True))
    assert one.may_take_traffic(0.0)


def test_it_has_its_weight_at_once_unless_it_starts_slowly():
    one = replica()
    one.base_weight = 4.0
    assert one.weight(0.0) == 4.0
    one.slow_start = SlowStart(window=Timeout(10))
    assert one.weight(100.0) == pytest.approx(0.4)
    assert one.weight(105.0) == pytest.approx(2.0)
    assert one.weight(110.0) == 4.0


def test_a_slow_start_begins_anew_when_it_comes_back():
    one = replica()
    one.slow_start = SlowStart(window=Timeout(10))
    one.observe(Readiness(True))
    one.weight(0.0)
    one.observe(Readiness(True))
    assert one.weight(60.0) == 1.0
    one.observe(Readiness(False, "gone"))
    one.observe(Readiness(True))
    assert one.weight(61.0) == pytest.approx(0.1)

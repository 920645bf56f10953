from __future__ import annotations

import pytest

from backends.readiness import Condition, Readiness
from gateway.routing.ejection import Comparison
from gateway.routing.replica import Replica

INTERVAL = 10.0


@pytest.fixture
def group():
    replicas = tuple(Replica("engine", object(), f"http://10.0.0.{number}") for number in range(4))
    for one in replicas:
        one.peers = replicas
        one.observe(Readiness(True))
    return replicas


def answer(group, now, failing=(), times=10):
    """Each gets `times` requests; those that fail do so now and then, never often in a row."""
    for _ in range(times // 2):
        for one in group:
            if one in failing:
                one.failed(one.breaker.sent(now), now, "http_500")
                one.failed(one.breaker.sent(now), now, "http_500")
            else:
                one.succeeded(one.breaker.sent(now))
            one.succeeded(one.breaker.sent(now))


def ejected(group, now):
    return [one for one in group if one.condition(now) is Condition.EJECTED]


def test_one_that_fails_two_of_three_requests_is_ejected_and_comes_back(group):
    comparison = Comparison(0.0)
    answer(group, 5.0, failing=group[:1])
    comparison.tick(group, INTERVAL - 0.1)
    assert ejected(group, INTERVAL) == [], "the interval is not over"
    comparison.tick(group, INTERVAL)
    assert ejected(group, INTERVAL) == [group[0]]
    assert group[0].why_not(INTERVAL) == "ejected: 67 % of its requests fail; tried again in 30 s"
    assert group[0].ejections == {"outlier": 1}
    assert group[0].may_take_traffic(INTERVAL + 30)
    group[0].succeeded(group[0].breaker.sent(INTERVAL + 30))
    assert ejected(group, INTERVAL + 30) == []


def test_it_is_ejected_for_longer_each_time_and_forgiven_by_and_by(group):
    bad, comparison, now, waits = group[0], Comparison(0.0), 0.0, []
    for _ in range(3):
        answer(group, now, failing=[bad])
        now += INTERVAL
        comparison.tick(group, now)
        waits.append(bad.breaker.opens_at - now)
        now = bad.breaker.opens_at
        bad.succeeded(bad.breaker.sent(now))
    assert waits == [30.0, 60.0, 90.0]
    for _ in range(2):
        answer(group, now)
        now += INTERVAL
        comparison.tick(group, now)
    answer(group, now, failing=[bad])
    now += INTERVAL
    comparison.tick(group, now)
    assert bad.breaker.opens_at - now == 60.0


def test_no_more_than_half_of_them_and_the_worst_first(group):
    comparison = Comparison(0.0)
    answer(group, 0.0, failing=group[:3])
    for _ in range(10):
        for one in group[1:3]:
            one.breaker.succeeded(one.breaker.epoch)
            one.failed(one.breaker.sent(0.0), 0.0, "http_500")
    comparison.tick(group, INTERVAL)
    assert ejected(group, INTERVAL) == list(group[1:3])


def test_one_that_is_ejected_already_is_not_compared(group):
    comparison = Comparison(0.0)
    answer(group, 0.0, failing=group[:1])
    group[0].breaker.open(9.0, 60.0)
    comparison.tick(group, INTERVAL)
    assert group[0].breaker.opens_at == 69.0
    assert [one.tally.latest(1).requests for one in group] == [0] * 4, "a new interval has begun"


def test_one_request_in_five_seconds_is_enough_to_be_found_out(group):
    """Two of them, in turns; every second one of the bad one fails, so never two in a row."""
    pair, comparison, now = group[:2], Comparison(0.0), 0.0
    for one in pair:
        one.peers = pair
    for number in range(24):
        now += 5.0
        one, bad = pair[number % 2], number % 4 == 0
        epoch = one.breaker.sent(now)
        one.failed(epoch, now, "http_500") if bad else one.succeeded(epoch)
        comparison.tick(pair, now)
        if ejected(pair, now):
            break
    assert now == 100.0, "ten of each"
    assert ejected(pair, now) == [pair[0]]
    assert pair[0].why_not(now).startswith("ejected: 50 % of its requests fail; ")


def test_half_the_speed_by_its_weight_is_no_reason(group):
    comparison = Comparison(0.0)
    group[0].base_weight = 0.5
    for one in group:
        for _ in range(10):
            one.answers(one.breaker.sent(0.0), 0.0, 8.0 if one is group[0] else 1.0, 500)
    comparison.tick(group, INTERVAL)
    assert ejected(group, INTERVAL) == []
    group[0].base_weight = 1.0
    for one in group:
        for _ in range(10):
            one.answers(one.breaker.sent(0.0), 0.0, 8.0 if one is group[0] else 1.0, 500)
    comparison.tick(group, INTERVAL * 2)
    assert ejected(group, INTERVAL * 2) == [group[0]]


def test_who_is_gone_is_forgotten(group):
    comparison = Comparison(0.0)
    answer(group, 0.0, failing=group[:1])
    comparison.tick(group, INTERVAL)
    comparison.tick(group[1:], INTERVAL * 2)
    comparison.tick((), INTERVAL * 3)
    assert not comparison._times

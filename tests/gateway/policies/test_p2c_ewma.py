from __future__ import annotations

from collections import Counter
from random import Random

from gateway.policies.p2c_ewma import P2cEwma
from tests.support.candidates import FakeReplica, replicas, view


def picks(some, times=3000):
    rng = Random(5)
    return Counter(P2cEwma().pick(some, view(), rng).id for _ in range(times))


def test_the_worst_of_all_is_picked_by_nobody():
    some = replicas("abcd", ttft=0.2)
    some[2].ttft = 3.0
    assert "c" not in picks(some)


def test_the_best_is_not_picked_by_all():
    some = replicas("abcd", ttft=0.2)
    some[2].ttft = 0.1
    assert 0.4 < picks(some)["c"] / 3000 < 0.6


def test_what_is_under_way_makes_a_fast_one_dearer():
    fast, slow = FakeReplica("fast", 3, ttft=0.1), FakeReplica("slow", 0, ttft=0.3)
    assert set(picks([fast, slow])) == {"slow"}
    fast.outstanding = 1
    assert set(picks([fast, slow])) == {"fast"}


def test_one_whose_time_is_unknown_is_judged_by_what_is_under_way():
    fresh, known = FakeReplica("fresh", 1), FakeReplica("known", 0, ttft=9.0)
    assert set(picks([fresh, known])) == {"known"}
    fresh.outstanding, known.outstanding = 0, 1
    assert set(picks([fresh, known])) == {"fresh"}


def test_a_heavier_one_takes_more_at_once():
    heavy, light = FakeReplica("heavy", 4, weighs=3.0, ttft=0.1), FakeReplica("light", 1, ttft=0.1)
    assert set(picks([heavy, light])) == {"heavy"}


def test_equals_have_their_turn_by_weight():
    assert all(600 < count < 900 for count in picks(replicas("abcd", ttft=0.1)).values())

from __future__ import annotations

import random

from backends.options import WeightedReplica
from gateway.control.lingering import LONGEST, PARTIAL_FOR, Lingering
from gateway.control.lookup import MOST

GRACE = 120.0


def url(number):
    return f"http://10.0.0.{number}:8000"


class Told:
    """Answers at a time, and who is in force by them."""

    def __init__(self, grace=GRACE):
        self.lingering = Lingering(grace)
        self.in_force = ()
        self.fails = set()

    def hear(self, now, *numbers, ttl=None):
        self.lingering.hear([url(one) for one in sorted(numbers)], ttl, now)
        return self.at(now)

    def at(self, now):
        known = {one for one in self.in_force if one not in self.fails}
        self.in_force = self.lingering.entries(now, known.__contains__)
        return [int(one.split(":")[1].rpartition(".")[2]) for one in self.in_force]


def test_a_resolver_that_tells_of_all_is_believed_at_once():
    told = Told()
    assert told.hear(0, 1, 2, 3) == [1, 2, 3]
    assert told.hear(10, 1, 2) == [1, 2]
    assert told.hear(20, 2, 4) == [2, 4]


def test_who_comes_back_shows_that_the_resolver_tells_of_some_only():
    told = Told()
    told.hear(0, 1, 2)
    assert told.hear(10, 2, 3) == [2, 3]
    assert told.hear(20, 1, 2) == [1, 2, 3]
    assert told.hear(30, 4) == [1, 2, 3, 4]


def test_who_is_missing_for_long_is_gone():
    told = Told()
    told.hear(0, 1)
    told.hear(10, 2)
    assert told.hear(20, 1) == [1, 2]
    assert told.at(10 + GRACE - 1) == [1, 2]
    assert told.at(10 + GRACE) == [1]


def test_who_fails_is_gone_and_not_back_before_it_is_told_of():
    told = Told()
    told.hear(0, 1)
    told.hear(10, 2)
    told.hear(20, 1)
    told.fails = {url(2)}
    assert told.at(20) == [1]
    told.fails = set()
    assert told.at(21) == [1]
    assert told.hear(30, 2) == [1, 2]


def test_one_that_was_away_for_longer_shows_nothing():
    told = Told()
    told.hear(0, 1, 2)
    told.hear(10, 1)
    assert told.hear(0 + GRACE, 1, 2) == [1, 2]
    assert told.hear(10 + GRACE, 1) == [1]


def test_a_resolver_that_has_mended_its_ways_is_believed_again():
    told = Told()
    told.hear(0, 1)
    told.hear(10, 2)
    told.hear(20, 1, 2)
    now = 20 + PARTIAL_FOR
    told.hear(now - 1, 1, 2)
    assert told.hear(now, 1) == [1]


def test_a_long_time_to_live_makes_them_stay_for_longer_and_not_for_ever():
    told = Told()
    told.hear(0, 1, ttl=60)
    assert told.lingering.grace == 300
    told.hear(60, 1, ttl=86400)
    assert told.lingering.grace == LONGEST
    assert Lingering(0).grace == 0


def test_zero_keeps_nobody():
    told = Told(grace=0)
    for now, number in enumerate((1, 2, 1, 2)):
        assert told.hear(now, number) == [number]


def test_a_random_few_of_many_become_all_of_them_and_stay_so():
    told, rng = Told(), random.Random(7)
    sizes = [len(told.hear(look * 5.0, *rng.sample(range(10), 3))) for look in range(200)]
    assert min(sizes[40:]) == 10


def test_they_are_no_more_than_there_may_be():
    told = Told()
    half = MOST // 2
    for now, first in enumerate((0, half, 2 * half, 0, half, 2 * half, 0)):
        assert len(told.hear(now, *range(first, first + half))) <= MOST
    assert len(told.in_force) == MOST
    for now in range(20):
        told.lingering.hear([f"http://10.1.{now}.{n}" for n in range(MOST)], None, 100.0 + now)
    assert len(told.lingering._told) <= 4 * MOST


def test_a_changed_weight_is_no_other_replica():
    one = Lingering(GRACE)
    one.hear([url(1)], None, 0)
    one.hear([], None, 1)
    one.hear([url(1)], None, 2)
    heavier = WeightedReplica(url=url(1), weight=2)
    one.hear([heavier], None, 3)
    assert one.entries(3, lambda _: True) == (heavier,)

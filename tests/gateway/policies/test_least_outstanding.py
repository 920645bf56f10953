from __future__ import annotations

from collections import Counter
from random import Random

from gateway.policies.least_outstanding import LeastOutstanding
from tests.support.candidates import FakeReplica, replicas, view


def candidates(*loads):
    return [FakeReplica(name, load) for name, load in zip("abcd", loads, strict=False)]


def test_the_one_with_the_fewest_is_picked():
    assert LeastOutstanding().pick(candidates(3, 1, 2), view(), Random(1)).id == "b"


def test_among_equals_each_has_its_turn():
    rng = Random(1)
    picks = Counter(
        LeastOutstanding().pick(candidates(1, 0, 0), view(), rng).id for _ in range(400)
    )
    assert set(picks) == {"b", "c"}
    assert min(picks.values()) > 150


def test_a_heavier_one_is_given_more_at_a_time():
    big, small = FakeReplica("big", 3, weighs=4.0), FakeReplica("small", 1)
    assert LeastOutstanding().pick([small, big], view(), Random(1)) is big
    big.outstanding = 5
    assert LeastOutstanding().pick([small, big], view(), Random(1)) is small


def test_idle_ones_have_their_turn_by_weight():
    both = [FakeReplica("big", weighs=3.0), FakeReplica("small")]
    rng = Random(1)
    picks = Counter(LeastOutstanding().pick(both, view(), rng).id for _ in range(2000))
    assert 1400 < picks["big"] < 1600


def test_under_way_are_as_many_as_weights_say():
    some = replicas("abc")
    some[0].weighs = 2.0
    for _ in range(400):
        LeastOutstanding().pick(some, view(), Random(1)).outstanding += 1
    assert [one.outstanding for one in some] == [200, 100, 100]

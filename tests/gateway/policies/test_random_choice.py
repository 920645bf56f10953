from __future__ import annotations

from collections import Counter
from random import Random

from gateway.policies.random_choice import RandomChoice
from tests.support.candidates import replicas, view


def test_each_is_as_likely_as_its_weight_says():
    rng, some = Random(7), replicas("abc")
    some[0].weighs = 2.0
    picks = Counter(RandomChoice().pick(some, view(), rng).id for _ in range(4000))
    assert 1900 < picks["a"] < 2100
    assert all(900 < picks[name] < 1100 for name in "bc")

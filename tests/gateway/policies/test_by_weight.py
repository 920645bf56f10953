from __future__ import annotations

from random import Random

from gateway.policies.by_weight import choose_by_weight
from tests.support.candidates import replicas


def test_one_of_very_little_weight_is_still_picked_at_times():
    rng, some = Random(3), replicas("ab")
    some[1].weighs = 0.01
    picks = [choose_by_weight(some, 0.0, rng).id for _ in range(3000)]
    assert 5 < picks.count("b") < 80

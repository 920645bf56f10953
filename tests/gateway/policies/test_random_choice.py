from __future__ import annotations

from collections import Counter
from random import Random

from gateway.policies.random_choice import RandomChoice


def test_each_is_as_likely_as_the_next():
    rng = Random(7)
    picks = Counter(RandomChoice().pick("abc", rng) for _ in range(3000))
    assert all(900 < count < 1100 for count in picks.values())

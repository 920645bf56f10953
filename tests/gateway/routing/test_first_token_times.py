from __future__ import annotations

from random import Random

import pytest

from gateway.routing.first_token_times import ENOUGH, KEPT, FirstTokenTimes


def test_nothing_is_said_before_enough_is_known():
    times = FirstTokenTimes()
    for _ in range(ENOUGH - 1):
        times.add(1.0)
        assert times.quantile(0.95) is None
    times.add(1.0)
    assert times.quantile(0.95) == 1.0


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100)])
def test_the_quantile_is_a_time_that_was_seen(share, expected):
    times = FirstTokenTimes()
    numbers = list(range(1, 101))
    Random(1).shuffle(numbers)
    for number in numbers:
        times.add(float(number))
    assert times.quantile(share) == expected


def test_only_the_last_ones_count():
    times = FirstTokenTimes()
    for _ in range(KEPT):
        times.add(100.0)
    assert times.quantile(0.5) == 100.0
    for _ in range(KEPT):
        times.add(1.0)
    assert times.quantile(1.0) == 1.0

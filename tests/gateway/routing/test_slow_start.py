from __future__ import annotations

import pytest

from backends.options import SlowStart
from backends.units import Timeout
from gateway.routing.slow_start import share


def slow(**fields):
    return SlowStart(window=Timeout(10), **fields)


def test_it_goes_from_the_least_to_all_in_a_straight_line():
    assert share(slow(), 0.0) == 0.1
    assert share(slow(), 0.5) == 0.1
    assert share(slow(), 5.0) == pytest.approx(0.5)
    assert share(slow(), 10.0) == 1.0
    assert share(slow(), 1e9) == 1.0


def test_aggression_is_more_at_the_beginning():
    assert share(slow(aggression=2.0), 2.5) == pytest.approx(0.5)
    assert share(slow(aggression=0.5), 5.0) == pytest.approx(0.25)


@pytest.mark.parametrize("aggression", [0.1, 1.0, 10.0])
def test_it_is_never_nothing_and_never_falls(aggression):
    shares = [
        share(slow(aggression=aggression, min_weight_percent=1), age / 10) for age in range(120)
    ]
    assert shares == sorted(shares)
    assert shares[0] == 0.01


def test_a_clock_that_is_behind_is_the_beginning():
    assert share(slow(), -1.0) == 0.1

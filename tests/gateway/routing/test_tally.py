from __future__ import annotations

import pytest

from gateway.routing.tally import INTERVALS, TIMES, FirstToken, Tally, looked_back


def test_intervals_are_taken_together_the_newest_first():
    one = Tally()
    for number in range(1, 4):
        one.successes, one.failures = number, 10 * number
        one.first_tokens.append(FirstToken(float(number), 0))
        if number < 3:
            one.turn()
    assert one.latest(1)[:2] == (3, 30)
    assert one.latest(2)[:2] == (5, 50)
    assert one.latest(9)[:2] == (6, 60)
    assert one.latest(9).requests == 66
    assert [time.seconds for time in one.latest(2).first_tokens] == [3.0, 2.0]


def test_what_is_older_than_can_be_looked_back_at_is_gone():
    one = Tally()
    one.failures = 7
    for _ in range(INTERVALS - 1):
        one.turn()
        assert one.latest(INTERVALS).failures == 7
    one.turn()
    assert one.latest(INTERVALS).failures == 0


def test_cleared_it_knows_of_nothing():
    one = Tally()
    one.successes = 3
    one.turn()
    one.clear()
    assert one.latest(INTERVALS) == (0, 0, ())


def test_times_are_bounded():
    one = Tally()
    for _ in range(3):
        one.first_tokens.extend([FirstToken(0.1, 0)] * 10_000)
        one.turn()
    assert len(one.latest(INTERVALS).first_tokens) == TIMES
    assert sum(len(interval.first_tokens) for interval in one._before) == TIMES


@pytest.mark.parametrize(
    ("interval", "intervals"), [(10.0, 12), (30.0, 4), (0.001, 12), (100.0, 1), (600.0, 1)]
)
def test_how_far_back(interval, intervals):
    assert looked_back(interval) == intervals

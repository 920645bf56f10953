from __future__ import annotations

import pytest

from backends.options import OutlierDetection
from backends.units import Timeout
from gateway.routing.outlier import find_outliers, may_eject
from gateway.routing.tally import FirstToken, Tally

BY = OutlierDetection()


def tally(successes=0, failures=0, first_token=None, streams=0, tokens=0):
    one = Tally()
    one.successes, one.failures = successes, failures
    one.first_tokens.extend([FirstToken(first_token, tokens)] * streams)
    return one


def spread(successes=0, failures=0, intervals=6, *, then=0, **streams):
    """The same in each of `intervals`, and `then` as many in which nothing happened."""
    one = Tally()
    for number in range(intervals + then):
        if number < intervals:
            same = tally(successes, failures, **streams)
            one.successes, one.failures = same.successes, same.failures
            one.first_tokens.extend(same.first_tokens)
        if number < intervals + then - 1:
            one.turn()
    return one


def found(by=BY, weights=None, **tallies):
    return list(find_outliers(tallies, by, weights))


def test_equals_are_none():
    same = {name: tally(19, 1, 0.3, 20) for name in "abcdefg"}
    assert found(**same) == []


def test_nobody_knows_of_anything():
    assert found() == []
    assert found(a=Tally(), b=Tally()) == []


class TestFailurePercentage:
    def test_one_of_two_that_fails_half_of_all(self):
        assert found(a=tally(5, 5), b=tally(10)) == ["a"]
        assert found(a=tally(6, 4), b=tally(10)) == []

    def test_few_requests_are_no_evidence(self):
        assert found(a=tally(0, 9), b=tally(10)) == []
        assert found(a=tally(0, 10), b=tally(9)) == [], "nobody to compare with"

    def test_where_all_fail_it_is_none_of_them(self):
        assert found(a=tally(1, 9), b=tally(0, 10)) == []

    def test_zero_is_off(self):
        off = OutlierDetection(failure_percentage_threshold=0)
        assert found(off, a=tally(0, 10), b=tally(10)) == []


class TestSuccessRate:
    def test_one_of_five_below_the_spread_of_all(self):
        others = {name: tally(100) for name in "bcde"}
        assert found(a=tally(70, 30), **others) == ["a"]
        assert found(a=tally(70, 30), b=tally(100), c=tally(100)) == [], "too few for a deviation"

    def test_one_that_does_little_is_not_compared(self):
        others = {name: tally(100) for name in "bcde"}
        assert found(a=tally(13, 6), **others) == []

    def test_zero_is_off(self):
        others = {name: tally(100) for name in "bcde"}
        off = OutlierDetection(success_rate_stdev_factor=0)
        assert found(off, a=tally(70, 30), **others) == []


class TestLatency:
    def test_one_that_is_much_slower(self):
        quick = {name: tally(10, first_token=0.5, streams=10) for name in "bc"}
        assert found(a=tally(10, first_token=4.0, streams=10), **quick) == ["a"]

    @pytest.mark.parametrize("seconds", [2.4, 0.5])
    def test_a_machine_of_half_the_speed_or_a_longer_queue_is_none(self, seconds):
        quick = {name: tally(10, first_token=0.5, streams=10) for name in "bc"}
        assert found(a=tally(10, first_token=seconds, streams=10), **quick) == []

    def test_milliseconds_are_no_matter(self):
        quick = {name: tally(10, first_token=0.01, streams=10) for name in "bc"}
        assert found(a=tally(10, first_token=0.9, streams=10), **quick) == []

    def test_one_long_prompt_is_nothing(self):
        one = tally(10, first_token=0.5, streams=9)
        one.first_tokens.append(FirstToken(60.0, 0))
        quick = {name: tally(10, first_token=0.5, streams=10) for name in "bc"}
        assert found(a=one, **quick) == []

    def test_two_are_no_comparison(self):
        slow, quick = tally(10, first_token=9.0, streams=10), tally(10, first_token=0.1, streams=10)
        assert found(a=slow, b=quick) == []

    def test_a_volume_beyond_what_is_kept_can_be_reached(self):
        by = OutlierDetection(latency_request_volume=100_000)
        quick = {name: tally(10, first_token=0.5, streams=300) for name in "bc"}
        assert found(by, a=tally(10, first_token=9.0, streams=300), **quick) == ["a"]


def test_the_worst_comes_first_with_its_reason():
    said = find_outliers({"a": tally(4, 6), "b": tally(1, 9), "c": tally(10)}, BY)
    assert list(said) == ["b", "a"]
    assert said["b"].reason == "90 % of its requests fail"
    quick = {name: tally(10, first_token=0.02, streams=10) for name in "bc"}
    said = find_outliers({"a": tally(10, first_token=3.01, streams=10), **quick}, BY)
    assert said["a"].reason == "takes 3 s to the first token, others would 0.02 s"


class TestFewRequests:
    """One each ten seconds or so: what people run at home."""

    def test_intervals_are_taken_together_until_they_are_enough(self):
        assert found(a=spread(1, 1), b=spread(2)) == ["a"]
        assert found(a=spread(1, 1, intervals=4), b=spread(2, intervals=4)) == [], "too few yet"

    def test_what_was_long_ago_says_nothing_of_now(self):
        assert found(a=spread(1, 1, then=20), b=spread(2, then=20)) == []

    def test_a_busy_one_is_judged_by_the_latest_interval_alone(self):
        better = spread(0, 20, intervals=1, then=1)
        better.successes = 20
        assert found(a=better, b=spread(20, intervals=2)) == []

    def test_nor_is_it_judged_again_once_the_quiet_one_tells_enough(self):
        busy = tally(0, 10)
        busy.turn()
        busy.successes = 10
        assert found(busy=busy, b=tally(10), c=tally(10), quiet=spread(5)) == []

    def test_what_befell_all_of_them_is_not_held_against_the_quiet_one(self):
        """The busy one has forgotten it; by the same intervals it was no better off."""
        busy = spread(0, 40, intervals=1, then=1)
        busy.successes = 20
        assert found(a=spread(0, 10, intervals=1, then=1), b=busy) == []

    def test_the_quiet_one_is_judged_beside_busy_ones(self):
        busy = {name: spread(40) for name in "bc"}
        assert found(a=spread(0, 2), **busy) == ["a"]

    def test_a_long_interval_is_long_enough(self):
        by = OutlierDetection(interval=Timeout(100))
        assert found(by, a=spread(1, 1), b=spread(2)) == []

    def test_success_rates_and_times(self):
        others = {name: spread(5) for name in "bcde"}
        assert found(a=spread(3, 2), **others) == ["a"]
        quick = {name: spread(2, first_token=0.5, streams=2) for name in "bc"}
        assert found(a=spread(2, first_token=4.0, streams=2), **quick) == ["a"]


class TestUnequal:
    """Replicas that are slower for a reason are not ejected for it."""

    def test_one_that_is_said_to_be_slower_may_take_as_much_longer(self):
        quick = {name: tally(10, first_token=0.5, streams=10) for name in "bc"}
        slow = tally(10, first_token=4.0, streams=10)
        assert found(weights={"a": 0.5}, a=slow, **quick) == []
        assert found(weights={"b": 2.0, "c": 2.0}, a=slow, **quick) == []
        much = tally(10, first_token=5.5, streams=10)
        assert found(weights={"a": 0.5}, a=much, **quick) == ["a"]

    def test_one_that_is_said_to_be_faster_is_not_held_to_it(self):
        quick = {name: tally(10, first_token=1.5, streams=10) for name in "bc"}
        same = tally(10, first_token=1.5, streams=10)
        assert found(weights={"a": 20.0}, a=same, **quick) == []
        assert found(weights={"b": 0.01, "c": 0.01}, a=same, **quick) == []

    def test_one_that_has_the_long_conversations_may_take_as_much_longer(self):
        quick = {name: tally(10, first_token=0.3, streams=10, tokens=200) for name in "bc"}
        agent = tally(10, first_token=4.0, streams=10, tokens=2500)
        assert found(a=agent, **quick) == []
        stuck = tally(10, first_token=40.0, streams=10, tokens=2500)
        assert found(a=stuck, **quick) == ["a"]

    def test_a_few_tokens_more_are_no_excuse(self):
        quick = {name: tally(10, first_token=0.3, streams=10, tokens=1) for name in "bc"}
        assert found(a=tally(10, first_token=4.0, streams=10, tokens=90), **quick) == ["a"]


@pytest.mark.parametrize(
    ("replicas", "ejected", "percent", "may"),
    [(1, 0, 10, True), (10, 0, 10, True), (10, 1, 10, False), (4, 1, 50, True), (4, 2, 50, False),
     (3, 1, 50, False), (1, 0, 0, False), (8, 7, 100, True)],
)  # fmt: skip
def test_how_many_may_be_ejected(replicas, ejected, percent, may):
    assert may_eject(replicas, ejected, percent) is may

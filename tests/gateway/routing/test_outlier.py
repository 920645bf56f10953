from __future__ import annotations

import pytest

from backends.options import OutlierDetection
from gateway.routing.outlier import Tally, find_outliers, may_eject

BY = OutlierDetection()


def tally(successes=0, failures=0, first_token=None, streams=0):
    one = Tally()
    one.successes, one.failures = successes, failures
    one.first_tokens.extend([first_token] * streams)
    return one


def found(by=BY, **tallies):
    return list(find_outliers(tallies, by))


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
        one.first_tokens.append(60.0)
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


def test_times_are_bounded():
    one = tally(1, first_token=0.1, streams=10_000)
    assert len(one.first_tokens) < 1000
    one.clear()
    assert (one.requests, len(one.first_tokens)) == (0, 0)


@pytest.mark.parametrize(
    ("replicas", "ejected", "percent", "may"),
    [(1, 0, 10, True), (10, 0, 10, True), (10, 1, 10, False), (4, 1, 50, True), (4, 2, 50, False),
     (3, 1, 50, False), (1, 0, 0, False), (8, 7, 100, True)],
)  # fmt: skip
def test_how_many_may_be_ejected(replicas, ejected, percent, may):
    assert may_eject(replicas, ejected, percent) is may

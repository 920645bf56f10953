from __future__ import annotations

import pytest

from gateway.routing.retry_budget import RetryBudget


def spend(budget, now):
    spent = 0
    while spent < 10_000 and budget.try_retry(now):
        spent += 1
    return spent


def test_the_floor_is_there_without_any_request():
    assert spend(RetryBudget(20, 10, 10), 0.0) == 100


def test_requests_add_their_share():
    budget = RetryBudget(20, 0, 10)
    for _ in range(50):
        budget.request(1.0)
    assert spend(budget, 1.0) == 10


def test_nothing_is_nothing():
    assert not RetryBudget(0, 0, 10).try_retry(5.0)


def test_a_look_takes_nothing():
    budget = RetryBudget(0, 0.1, 10)
    assert [budget.has_room(1.0) for _ in range(3)] == [True] * 3
    assert budget.try_retry(1.0)
    assert not budget.has_room(1.0)
    assert budget.has_room(30.0)


def test_one_that_was_not_made_is_given_back():
    budget = RetryBudget(0, 0.1, 10)
    assert budget.try_retry(1.0)
    assert not budget.try_retry(2.0)
    budget.give_back(1.0)
    assert budget.try_retry(2.0)


def test_one_that_is_given_back_late_makes_no_more_of_them():
    budget = RetryBudget(0, 0.1, 10)
    assert budget.try_retry(1.0)
    assert spend(budget, 30.0) == 1
    budget.give_back(1.0)
    assert spend(budget, 30.0) == 0


def test_what_is_older_than_the_window_counts_no_more():
    budget = RetryBudget(100, 0, 10)
    for _ in range(30):
        budget.request(0.5)
    assert spend(budget, 9.0) == 30
    assert spend(budget, 9.5) == 0
    budget.request(15.0)
    assert spend(budget, 15.0) == 0  # the retries of second 9 still weigh
    budget.request(25.0)
    assert spend(budget, 25.0) == 1


def test_an_hour_of_silence_clears_everything():
    budget = RetryBudget(20, 1, 10)
    assert spend(budget, 3.0) == 10
    assert spend(budget, 3600.0) == 10


@pytest.mark.parametrize("start", [0.0, 1e9, 0.123])
def test_over_a_long_time_the_share_is_kept(start):
    budget = RetryBudget(10, 0, 10)
    retries = 0
    for second in range(1000):
        for _ in range(10):
            budget.request(start + second)
            retries += budget.try_retry(start + second)
    assert 900 <= retries <= 1010

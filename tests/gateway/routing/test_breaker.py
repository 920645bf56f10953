from __future__ import annotations

import pytest

from gateway.routing.breaker import (
    FIRST_WAIT,
    FORGIVEN_AFTER,
    LONGEST_WAIT,
    THRESHOLD,
    TRIAL,
    Breaker,
    BreakerState,
)


def fail(breaker, now, times=1):
    for _ in range(times):
        breaker.failed(breaker.sent(now), now)


@pytest.fixture
def opened():
    """A breaker that opened at second 100."""
    breaker = Breaker()
    fail(breaker, 100.0, THRESHOLD)
    return breaker


def test_a_new_one_is_closed():
    assert Breaker().state(0.0) is BreakerState.CLOSED
    assert Breaker().allows(0.0)


def test_it_opens_after_so_many_failures_in_a_row_and_not_before():
    breaker = Breaker()
    fail(breaker, 0.0, THRESHOLD - 1)
    assert breaker.state(0.0) is BreakerState.CLOSED
    fail(breaker, 0.0)
    assert breaker.state(0.0) is BreakerState.OPEN
    assert not breaker.allows(0.0)


def test_a_success_begins_the_count_anew():
    breaker = Breaker()
    for _ in range(3):
        fail(breaker, 0.0, THRESHOLD - 1)
        breaker.succeeded(breaker.sent(0.0))
    assert breaker.state(0.0) is BreakerState.CLOSED


def test_after_the_wait_exactly_one_request_is_let_through(opened):
    assert not opened.allows(100.0 + FIRST_WAIT - 0.01)
    now = 100.0 + FIRST_WAIT
    assert opened.state(now) is BreakerState.HALF_OPEN
    assert opened.allows(now)
    opened.sent(now)
    assert not opened.allows(now)


def test_a_trial_that_succeeds_closes_it(opened):
    now = 100.0 + FIRST_WAIT
    opened.succeeded(opened.sent(now))
    assert opened.state(now) is BreakerState.CLOSED
    fail(opened, now, THRESHOLD - 1)
    assert opened.allows(now)


def test_each_trial_that_fails_doubles_the_wait_up_to_a_limit(opened):
    now, waits = 100.0, []
    for _ in range(8):
        start = now
        while not opened.allows(now):
            now += 0.25
        waits.append(now - start)
        fail(opened, now)
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert waits[-1] == LONGEST_WAIT


def test_a_trial_that_never_reports_does_not_lock_it_for_ever(opened):
    now = 100.0 + FIRST_WAIT
    opened.sent(now)
    assert opened.allows(now + LONGEST_WAIT)


def test_a_success_sent_before_it_opened_says_nothing_about_now():
    breaker = Breaker()
    early = breaker.sent(0.0)
    fail(breaker, 1.0, THRESHOLD)
    breaker.succeeded(early)
    assert breaker.state(1.0) is BreakerState.OPEN


def test_a_late_failure_does_not_open_it_again():
    breaker = Breaker()
    late = [breaker.sent(0.0) for _ in range(THRESHOLD)]
    fail(breaker, 0.0, THRESHOLD)
    breaker.succeeded(breaker.sent(FIRST_WAIT))
    for epoch in late:
        breaker.failed(epoch, FIRST_WAIT)
    assert breaker.state(FIRST_WAIT) is BreakerState.CLOSED


def test_a_witness_from_outside_closes_it_and_forgets_the_wait(opened):
    fail(opened, 100.0 + FIRST_WAIT)
    opened.reset()
    assert opened.allows(101.0)
    fail(opened, 200.0, THRESHOLD)
    assert opened.allows(200.0 + FIRST_WAIT)


def test_failures_while_it_is_open_do_not_keep_it_open():
    """Where all are down one is asked anyway; that it fails again is no news."""
    breaker = Breaker()
    for _ in range(THRESHOLD):
        breaker.failed(breaker.sent(0.0), 0.0)
    for step in range(9):
        breaker.failed(breaker.sent(step / 10), step / 10)
    assert breaker.state(FIRST_WAIT) is BreakerState.HALF_OPEN
    breaker.failed(breaker.sent(FIRST_WAIT), FIRST_WAIT)
    assert breaker.state(FIRST_WAIT * 2.9) is BreakerState.OPEN
    assert breaker.state(FIRST_WAIT * 3) is BreakerState.HALF_OPEN


def test_each_time_it_opens_soon_again_it_stays_open_for_longer():
    """A replica that flaps: it takes one request well, and then fails again."""
    breaker, now, waits = Breaker(), 100.0, []
    for _ in range(7):
        fail(breaker, now, THRESHOLD)
        waits.append(breaker.opens_at - now)
        now = breaker.opens_at
        breaker.succeeded(breaker.sent(now))
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    now += FORGIVEN_AFTER + TRIAL + LONGEST_WAIT
    fail(breaker, now, THRESHOLD)
    assert breaker.opens_at - now == FIRST_WAIT


def test_what_is_sent_beside_the_trial_decides_nothing(opened):
    now = 100.0 + FIRST_WAIT
    trial, beside = opened.sent(now), opened.sent(now)
    opened.succeeded(beside)
    opened.undecided(beside, now)
    opened.failed(beside, now)
    assert opened.state(now) is BreakerState.HALF_OPEN
    assert not opened.allows(now)
    opened.succeeded(trial)
    assert opened.state(now) is BreakerState.CLOSED


def test_a_success_sent_while_it_was_open_closes_it_unless_a_trial_is_under_way(opened):
    sent = opened.sent(100.5)
    trial = opened.sent(100.0 + FIRST_WAIT)
    assert not opened.succeeded(sent)
    opened.failed(trial, 101.0)
    assert opened.succeeded(opened.sent(101.5)), "where all are down, one was asked all the same"


def test_a_trial_that_says_nothing_is_followed_by_another_one(opened):
    """Its client has left, or it was the loser of a hedge."""
    now = 100.0 + FIRST_WAIT
    opened.undecided(opened.sent(now), now + 0.5)
    assert opened.allows(now + 0.5)
    opened.sent(now + 0.5)
    assert not opened.allows(now + 0.5)


def test_a_slow_trial_still_counts_when_another_one_was_let_through(opened):
    now = 100.0 + FIRST_WAIT
    slow = opened.sent(now)
    opened.sent(now + TRIAL)
    opened.succeeded(slow)
    assert opened.state(now + TRIAL) is BreakerState.CLOSED


def test_it_stays_closed_where_it_may_not_open():
    breaker = Breaker()
    for _ in range(THRESHOLD * 2):
        breaker.failed(breaker.sent(0.0), 0.0, lambda: False)
    assert breaker.closed
    breaker.failed(breaker.sent(0.0), 0.0, lambda: True)
    assert not breaker.closed

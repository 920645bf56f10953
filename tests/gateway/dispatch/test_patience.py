from __future__ import annotations

import pytest

from backends.base import Endpoint
from backends.readiness import Condition, Readiness
from backends.units import Timeout
from gateway.config.structs import Timeouts
from gateway.dispatch.patience import Patience
from gateway.routing.replica import Replica
from gateway.wire.watch import watch_for
from tests.support.upstream import ROLE, text

TIMEOUTS = Timeouts(first_token=Timeout(20), idle=Timeout(5))
ASKED_AT = 100.0


def watch():
    return watch_for(Endpoint.CHAT, 1)


DOWN = Readiness(False, "no answer")


@pytest.fixture
def replica():
    one = Replica("engine", object(), "http://a")
    one.observe(Readiness(True))
    one.alive_at = ASKED_AT
    return one


class TestWatched:
    @pytest.fixture
    def patience(self, replica):
        patience = Patience(replica, TIMEOUTS, ASKED_AT)
        patience.watch = watch()
        return patience

    def test_until_the_first_event_it_is_the_first_token_s_time(self, patience):
        assert patience.left(ASKED_AT + 19) == (1, "first_token_timeout")
        assert patience.left(ASKED_AT + 21) == (-1, "first_token_timeout")

    def test_from_then_on_the_time_between_two(self, patience):
        assert patience.heard(text("Once"), ASKED_AT + 15)
        assert patience.left(ASKED_AT + 16) == (4, "idle_timeout")
        assert patience.heard(text(" upon"), ASKED_AT + 19)
        assert patience.left(ASKED_AT + 25) == (-1, "idle_timeout")

    def test_what_no_user_would_see_is_no_first_token(self, patience):
        """Work on the prompt may take longer than `idle`."""
        for block in (ROLE, b":\n\n", ROLE):
            assert not patience.heard(block, ASKED_AT + 1)
        assert not patience.has_content
        assert patience.left(ASKED_AT + 19) == (1, "first_token_timeout")

    def test_comments_are_no_events(self, patience):
        patience.heard(text("Once"), ASKED_AT + 1)
        assert not patience.heard(b":\n\n", ASKED_AT + 5)
        assert patience.heard(b":\n\n" + text("."), ASKED_AT + 5)
        assert patience.left(ASKED_AT + 5) == (5, "idle_timeout")

    def test_who_waits_for_a_turn_is_waited_for_while_others_have_theirs(self, patience, replica):
        replica.answered_at = ASKED_AT + 30
        assert patience.left(ASKED_AT + 40) == (10, "first_token_timeout")

    def test_what_it_said_before_does_not_shorten_it(self, patience, replica):
        replica.answered_at = ASKED_AT - 50
        assert patience.left(ASKED_AT) == (20, "first_token_timeout")


class TestUnwatched:
    @pytest.fixture
    def patience(self, replica):
        return Patience(replica, TIMEOUTS, ASKED_AT)

    def test_one_that_is_there_may_take_all_the_time(self, patience):
        assert patience.left(ASKED_AT + 1000)[0] > 0

    def test_one_that_is_gone_has_the_time_since_its_last_sign(self, patience, replica):
        replica.alive_at = ASKED_AT + 10
        replica.observe(DOWN)
        assert patience.left(ASKED_AT + 12) == (3, "idle_timeout")
        assert patience.left(ASKED_AT + 16) == (-1, "idle_timeout")

    def test_a_token_for_anybody_is_a_sign(self, patience, replica):
        replica.observe(DOWN)
        replica.answered_at = ASKED_AT + 14
        assert patience.left(ASKED_AT + 16) == (3, "idle_timeout")

    def test_one_that_is_back_goes_on(self, patience, replica):
        replica.observe(DOWN)
        replica.observe(Readiness(True))
        assert patience.left(ASKED_AT + 60)[0] > 0

    def test_one_that_was_gone_before_has_its_time_all_the_same(self, patience, replica):
        """It was asked because there was nobody better."""
        replica.alive_at = ASKED_AT - 100
        replica.observe(DOWN)
        assert patience.left(ASKED_AT + 1) == (4, "idle_timeout")

    def test_one_that_makes_no_tokens_is_gone_whatever_it_answers(self, patience, replica):
        replica.alive_at = ASKED_AT + 30
        replica.stuck = "made no token"
        assert patience.left(ASKED_AT + 30)[0] < 0

    def test_an_ejection_says_nothing(self, patience, replica):
        replica.eject(ASKED_AT + 1, 600, "fails more than its peers")
        assert patience.left(ASKED_AT + 100)[0] > 0

    @pytest.mark.parametrize("condition", [Condition.LOADING, Condition.MISCONFIGURED])
    def test_nor_does_what_it_says_itself(self, patience, replica, condition):
        replica.observe(Readiness(False, "x", condition))
        assert patience.left(ASKED_AT + 100)[0] > 0

    def test_nobody_looks_at_one_on_its_way_out(self, patience, replica):
        replica.observe(DOWN)
        replica.leaving = True
        assert patience.left(ASKED_AT + 100)[0] > 0


@pytest.mark.parametrize(("idle", "look"), [(5, 1.0), (0.2, 0.2)])
def test_it_is_looked_at_often_enough(replica, idle, look):
    timeouts = Timeouts(first_token=Timeout(20), idle=Timeout(idle))
    assert Patience(replica, timeouts, ASKED_AT).look == look


def test_a_stream_has_its_time_to_the_first_token(replica):
    patience = Patience(replica, TIMEOUTS, ASKED_AT, streamed=True)
    replica.answered_at = ASKED_AT + 10
    assert patience.left(ASKED_AT + 19) == (1, "first_token_timeout")

from __future__ import annotations

from random import Random

import pytest

from backends.readiness import Condition, Readiness
from backends.units import Duration
from gateway.config.structs import Retry
from gateway.dispatch.candidates import candidates_for, wait_before
from gateway.dispatch.hedge import Tried
from gateway.dispatch.verdict import Failure
from gateway.errors import UpstreamFailed
from gateway.routing.replica import Replica

RETRY = Retry(backoff=Duration(0.1), max_backoff=Duration(2))


def replica(name, ready=True):
    one = Replica("engine", object(), f"http://{name}")
    one.observe(Readiness(ready, "" if ready else "down"))
    return one


def tried(one, **fields):
    return Tried(one, Failure(cause="x", error=UpstreamFailed("x"), **fields))


@pytest.fixture
def three():
    return [replica("a"), replica("b"), replica("c", ready=False)]


class TestCandidates:
    def test_the_healthy_ones_come_first(self, three):
        a, b, _ = three
        assert candidates_for(three, [], 2.0, 0.0) == [a, b]

    def test_who_has_failed_is_not_asked_while_another_is_left(self, three):
        a, b, c = three
        assert candidates_for(three, [tried(a)], 2.0, 0.0) == [b]
        assert candidates_for(three, [tried(a), tried(b)], 2.0, 0.0) == [c]

    def test_where_none_is_healthy_all_are_tried(self):
        down = [replica("a", ready=False), replica("b", ready=False)]
        assert candidates_for(down, [], 2.0, 0.0) == down

    def test_one_that_is_down_is_better_than_nobody(self):
        down = [replica("a", ready=False)]
        assert candidates_for(down, [], 2.0, 0.0) == down

    def test_no_retry_goes_to_one_that_refuses_the_gateway(self, three):
        a, b, c = three
        for one in (b, c):
            one.observe(Readiness(False, "wrong key", Condition.MISCONFIGURED))
        assert candidates_for(three, [tried(a)], 2.0, 0.0) == [a]
        assert not candidates_for(three, [tried(a, retry_after=20.0)], 2.0, 0.0)
        assert candidates_for([b, c], [], 2.0, 0.0) == [b, c], "better than nobody"

    def test_once_all_have_failed_those_that_may_be_are_asked_again(self):
        a, b, c = three = [replica(name) for name in "abc"]
        failed = [tried(a, leave_replica=True), tried(b), tried(c)]
        assert candidates_for(three, failed, 2.0, 0.0) == [b, c]

    def test_none_that_is_down_is_asked_again_beside_one_that_is_not(self, three):
        a, b, c = three
        failed = [tried(a, leave_replica=True), tried(b), tried(c)]
        assert candidates_for(three, failed, 2.0, 0.0) == [b]
        assert candidates_for([a, c], [tried(a, leave_replica=True), tried(c)], 2.0, 0.0) == [c]

    def test_where_none_may_be_nobody_is(self, three):
        assert not candidates_for(
            three, [tried(one, leave_replica=True) for one in three], 2.0, 0.0
        )

    def test_one_that_wants_to_be_left_alone_leaves_the_others(self):
        a, b, c = three = [replica(name) for name in "abc"]
        failed = [tried(a, retry_after=30.0), tried(b, retry_after=2.0), tried(c)]
        assert candidates_for(three, failed, 2.0, 0.0) == [b, c]

    def test_its_latest_word_counts(self, three):
        a = three[0]
        patient = [tried(a, retry_after=30.0), tried(a)]
        assert candidates_for([a], patient, 2.0, 0.0) == [a]
        assert not candidates_for([a], patient[::-1], 2.0, 0.0)


class TestWait:
    def test_another_replica_is_asked_at_once(self, three):
        a, b, _ = three
        assert wait_before(b, RETRY, [tried(a, retry_after=60.0)], Random(1)) == 0.0

    @pytest.mark.parametrize(("failures", "longest"), [(1, 0.2), (2, 0.4), (3, 0.8), (9, 2.0)])
    def test_the_same_one_is_given_time_and_more_each_time(self, three, failures, longest):
        a = three[0]
        waits = [wait_before(a, RETRY, [tried(a)] * failures, Random(i)) for i in range(200)]
        assert min(waits) >= 0.1
        assert longest * 0.9 < max(waits) <= longest

    def test_no_less_than_it_asks_for(self, three):
        a = three[0]
        assert wait_before(a, RETRY, [tried(a, retry_after=1.5)], Random(1)) == 1.5

    def test_its_latest_word_counts(self, three):
        a = three[0]
        failures = [tried(a, retry_after=60.0), tried(a)]
        assert wait_before(a, RETRY, failures, Random(1)) < 1

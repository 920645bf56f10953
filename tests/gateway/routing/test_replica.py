from __future__ import annotations

from math import inf

import pytest

from backends.options import OutlierDetection, SlowStart
from backends.readiness import Condition, Readiness
from backends.units import Timeout
from gateway.routing.breaker import FIRST_WAIT, THRESHOLD
from gateway.routing.replica import MISCONFIGURED_FOR, Replica


def replica(address="http://10.0.0.1:8000"):
    return Replica("engine", object(), address)


@pytest.mark.parametrize(
    ("address", "id_"),
    [
        ("http://10.0.0.1:8000", "engine@10.0.0.1:8000"),
        ("http://10.0.0.1:8000/v1", "engine@10.0.0.1:8000"),
        ("http://10.0.0.1:8000/v1/", "engine@10.0.0.1:8000"),
        ("unix:/run/engine.sock", "engine@unix:/run/engine.sock"),
        ("in-process", "engine@in-process"),
    ],
)
def test_its_id_is_short_and_does_not_depend_on_spelling(address, id_):
    assert replica(address).id == id_


def test_before_anybody_has_looked_it_takes_no_traffic():
    assert not replica().may_take_traffic(0.0)
    assert replica().why_not(0.0) == "not probed yet"


def test_it_takes_traffic_while_ready_and_not_broken():
    one = replica()
    one.observe(Readiness(True))
    assert one.may_take_traffic(0.0)
    assert one.why_not(0.0) == ""
    for _ in range(THRESHOLD):
        one.failed(one.breaker.sent(0.0), 0.0, "reset")
    assert not one.may_take_traffic(0.0)
    assert "3 failures in a row, the last: reset; tried again in 1 s" in one.why_not(0.0)
    one.observe(Readiness(False, "HTTP 503"))
    assert one.why_not(0.0) == "HTTP 503"


def test_coming_back_is_a_clean_record_and_staying_is_not():
    one = replica()
    one.observe(Readiness(True))
    for _ in range(THRESHOLD):
        one.breaker.failed(one.breaker.sent(0.0), 0.0)
    one.observe(Readiness(True))
    assert not one.may_take_traffic(0.0)
    one.observe(Readiness(False, "gone"))
    one.observe(Readiness(True))
    assert one.may_take_traffic(0.0)


def test_it_has_its_weight_at_once_unless_it_starts_slowly():
    one = replica()
    one.base_weight = 4.0
    assert one.weight(0.0) == 4.0
    one.slow_start = SlowStart(window=Timeout(10))
    assert one.weight(100.0) == pytest.approx(0.4)
    assert one.weight(105.0) == pytest.approx(2.0)
    assert one.weight(110.0) == 4.0


def test_a_slow_start_begins_anew_when_it_comes_back():
    one = replica()
    one.slow_start = SlowStart(window=Timeout(10))
    one.observe(Readiness(True))
    one.weight(0.0)
    one.observe(Readiness(True))
    assert one.weight(60.0) == 1.0
    one.observe(Readiness(False, "gone"))
    one.observe(Readiness(True))
    assert one.weight(61.0) == pytest.approx(0.1)


def ready(count=1):
    """Replicas of one backend."""
    group = tuple(replica(f"http://10.0.0.{number}:8000") for number in range(count))
    for one in group:
        one.peers = group
        one.observe(Readiness(True))
    return group


def fail(one, now, times=THRESHOLD, **how):
    for _ in range(times):
        one.failed(one.breaker.sent(now), now, "http_500", **how)


def test_it_says_how_it_is_and_why():
    (one,) = ready()
    assert one.condition(0.0) is Condition.READY
    one.leave_alone(10.0)
    assert one.condition(0.0) is Condition.RATE_LIMITED
    assert one.why_not(0.0) == "asked to be left alone for 10 s more"
    fail(one, 0.0)
    assert one.condition(0.0) is Condition.EJECTED
    one.observe(Readiness(False, "HTTP 503"))
    assert one.condition(0.0) is Condition.UNHEALTHY
    one.leaving = True
    assert one.condition(0.0) is Condition.DRAINING
    assert not one.may_take_traffic(0.0)


def test_one_that_is_rate_limited_is_left_alone_until_then_and_no_shorter():
    (one,) = ready()
    one.leave_alone(10.0)
    one.leave_alone(5.0)
    one.succeeded(one.breaker.sent(0.0))
    assert not one.may_take_traffic(9.9)
    assert one.may_take_traffic(10.0)


def test_half_open_it_is_ejected_still_though_one_may_try():
    (one,) = ready()
    fail(one, 0.0)
    now = FIRST_WAIT
    assert one.may_take_traffic(now)
    assert one.condition(now) is Condition.EJECTED
    assert one.why_not(now).endswith("the next request tries it")
    trial = one.breaker.sent(now)
    assert one.why_not(now).endswith("being tried")
    assert not one.may_take_traffic(now)
    one.answers(trial, now + 0.1, 0.1)
    assert one.condition(now) is Condition.READY, "its first content is enough"


def test_one_that_refuses_the_gateway_is_no_flap():
    (one,) = ready()
    fail(one, 0.0, misconfigured="wrong key")
    assert one.condition(0.0) is Condition.MISCONFIGURED
    assert not one.may_take_traffic(MISCONFIGURED_FOR - 1)
    now = MISCONFIGURED_FOR
    fail(one, now, 1, misconfigured="wrong key")
    assert not one.may_take_traffic(now + MISCONFIGURED_FOR - 1)
    assert one.ejections == {"misconfigured": 2}


def test_no_more_are_ejected_than_may_be():
    group = ready(4)
    for one in group:
        fail(one, 0.0)
    assert [one.condition(0.0) is Condition.EJECTED for one in group] == [True, True, False, False]
    group[0].succeeded(group[0].breaker.sent(FIRST_WAIT))
    fail(group[3], FIRST_WAIT, 1)
    assert group[3].condition(FIRST_WAIT) is Condition.EJECTED, "there is room again"


@pytest.mark.parametrize(("percent", "ejected"), [(0, 0), (1, 1), (50, 1), (67, 2), (100, 3)])
def test_the_share_of_those_that_may_be_ejected(percent, ejected):
    group = ready(3)
    for one in group:
        one.detection = OutlierDetection(max_ejection_percent=percent)
        fail(one, 0.0)
    assert sum(not one.may_take_traffic(0.0) for one in group) == ejected


def test_a_wrong_configuration_is_told_of_all():
    group = ready(3)
    for one in group:
        fail(one, 0.0, misconfigured="wrong key")
    assert {one.condition(0.0) for one in group} == {Condition.MISCONFIGURED}


def test_a_refusal_of_the_gateway_takes_nobody_elses_share_of_ejections():
    group = ready(4)
    for one in group[:2]:
        fail(one, 0.0, misconfigured="wrong key")
    for one in group[2:]:
        fail(one, 0.0)
    assert [one.condition(0.0) for one in group[2:]] == [Condition.EJECTED] * 2


def test_a_replica_that_is_believed_again_starts_slowly():
    (one,) = ready()
    one.slow_start = SlowStart(window=Timeout(10))
    one.weight(0.0)
    fail(one, 60.0)
    one.succeeded(one.breaker.sent(60.0 + FIRST_WAIT))
    assert one.weight(62.0) == pytest.approx(0.1)


def test_what_was_sent_before_it_was_ejected_is_not_counted_for_it():
    (one,) = ready()
    early = one.breaker.sent(0.0)
    fail(one, 0.0)
    one.succeeded(early)
    one.answers(early, 0.0, 0.1)
    assert one.condition(0.0) is Condition.EJECTED
    assert one.tally.latest(1) == (0, 0, ())


def test_how_many_failures_in_a_row_it_takes_can_be_said():
    (one,) = ready()
    one.detection = OutlierDetection(consecutive_failures=5)
    fail(one, 0.0, 4)
    assert one.may_take_traffic(0.0)
    fail(one, 0.0, 1)
    assert not one.may_take_traffic(0.0)


class TestSilence:
    """Said by probes that began at 10, 12, … and ended two seconds later."""

    SILENT = Readiness(False, "no answer", silent=True)
    REFUSED = Readiness(False, "refused")

    @pytest.mark.parametrize(
        ("said", "busy", "answered_at", "since", "silent"),
        [
            ("sss", "", -inf, 9.0, True),
            ("ss", "", -inf, 9.0, False),
            ("sss", "", -inf, 11.0, False),
            ("ssss", "", -inf, 11.0, True),
            ("sss", "", 11.0, 9.0, False),
            ("sss", "", 9.5, 9.0, True),
            ("ssrss", "", -inf, 9.0, False),
            ("sssr", "", -inf, 9.0, False),
            ("sssy", "", -inf, 9.0, False),
            ("sss", "1", -inf, 9.0, False),
            ("ssss", "1", -inf, 9.0, True),
            ("rrrr", "", -inf, 9.0, False),
        ],
        ids=[
            "three",
            "two",
            "one of them was before the request",
            "three since then",
            "a token after the first",
            "a token before",
            "it refused one",
            "it refuses now",
            "it is back",
            "it was busy at one of them",
            "three beside that one",
            "one on its way out refuses",
        ],
    )
    def test_it_takes_several_probes_without_any_other_sign(
        self, said, busy, answered_at, since, silent
    ):
        one = replica()
        one.answered_at = answered_at
        words = {"s": self.SILENT, "r": self.REFUSED, "y": Readiness(True)}
        for number, word in enumerate(said):
            began = 10.0 + 2 * number
            one.probed(words[word], began, began + 2, busy=str(number) in busy)
        assert one.is_silent(since) == silent

    def test_an_ejection_is_no_silence(self):
        one = replica()
        one.eject(10.0, 60.0, "slow")
        assert not one.is_silent(0.0)

    def test_only_a_yes_is_a_sign_of_life(self):
        one = replica()
        one.probed(self.REFUSED, 10.0, 10.1, busy=False)
        assert one.alive_at == -inf
        one.probed(Readiness(True), 12.0, 12.1, busy=False)
        assert one.alive_at == 12.1

from __future__ import annotations

import pytest

from backends.units import Timeout
from gateway.config.structs import LatencyBudget
from gateway.dispatch.turned_away import judge_over_budget, judge_refusal
from gateway.dispatch.verdict import Why
from gateway.routing.admission import Reason
from gateway.routing.latency import Forecast

BUDGET = LatencyBudget(ttft=Timeout(0.5), total=Timeout(8))


@pytest.mark.parametrize("reason", list(Reason))
def test_a_gate_says_why_and_when_to_come_back(reason):
    failure = judge_refusal(reason, 3.5, "tale", 8, 256)
    assert (failure.error.status, failure.error.code, failure.cause) == (429, reason, reason)
    assert failure.error.retry_after == 3.5
    assert "'tale' has its 8 requests" in failure.error.message
    assert failure.error.message.endswith("a place takes about 3.5 s")
    assert (failure.retry, failure.fall_back, failure.why) == (False, True, Why.OVERLOADED)
    assert not failure.blame


def test_nobody_is_told_to_come_back_at_once():
    error = judge_refusal(Reason.FULL, 0.0, "tale", 1, 1).error
    assert error.retry_after >= 1
    assert error.message.endswith("and 1 wait already")


def test_nobody_is_told_to_stay_away_for_hours():
    assert judge_refusal(Reason.FULL, 7200.0, "tale", 1, 1).error.retry_after == 60
    late = judge_over_budget("tale", BUDGET, None, Forecast(0, 9e4, 0), 0, 9, 9.0, 9e4)
    assert late.error.retry_after == 60


def test_a_forecast_is_told_in_its_parts():
    failure = judge_over_budget(
        "tale", BUDGET, 4.0, Forecast(1.0, 0.75, 6.0), 0.25, 2000, 300.0, 2.0
    )
    assert failure.error.message == (
        "the model 'tale' would be late by 2 s: its first token would take about 2 s and the whole "
        "8 s (queue 1.2 s, 2000 tokens of prompt 0.75 s, about 300 tokens of answer 6 s); its "
        "budget is ttft 0.5 s, total 8 s, x-gateway-timeout 4 s"
    )
    assert (failure.error.status, failure.error.code) == (429, "over_budget")
    assert failure.error.retry_after == 2.0


def test_what_is_not_known_or_not_bounded_is_left_out():
    budget = LatencyBudget(ttft=Timeout(0.5))
    failure = judge_over_budget(
        "tale", budget, None, Forecast(0.0, 0.75, None), 0.001, 2000, None, 0.25
    )
    assert failure.error.message == (
        "the model 'tale' would be late by 0.25 s: its first token would take about 0.75 s "
        "(2000 tokens of prompt 0.75 s); its budget is ttft 0.5 s"
    )


def test_where_only_the_whole_is_known_that_is_told():
    forecast = Forecast(None, None, None, 9.0)
    failure = judge_over_budget("tale", BUDGET, None, forecast, 0.0, 2000, 300.0, 1.0)
    assert failure.error.message == (
        "the model 'tale' would be late by 1 s: the whole would take about 9 s (2000 tokens of "
        "prompt, about 300 tokens of answer); its budget is ttft 0.5 s, total 8 s"
    )


def test_what_would_always_be_late_is_not_told_to_come_back():
    failure = judge_over_budget(
        "tale", BUDGET, None, Forecast(0.0, 9.0, None), 0.0, 9000, None, 8.5, ever=False
    )
    assert failure.error.retry_after is None
    assert failure.error.message.endswith(
        "An idle engine would be late as well: ask for less, or give it longer"
    )

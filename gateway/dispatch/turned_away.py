"""What a client is told that the gateway itself turns away, before an engine is asked. Pure.

Each says what there is too much of, in numbers, and when it is worth coming back.
"""

from __future__ import annotations

from gateway.config.structs import LatencyBudget
from gateway.dispatch.verdict import RETRY_SOON, Failure, Tells, Why
from gateway.errors import RateLimited
from gateway.routing.admission import Reason
from gateway.routing.latency import Forecast

OVER_BUDGET = "over_budget"
"""By what is known of the engines it would take longer than the route's budget has."""

_TOLD = 0.005
"""Seconds in a queue that are worth a word."""

_COME_BACK_WITHIN = 60.0
"""Seconds beyond which nobody is told to stay away: an estimate from a bad minute may be of hours,
and of the SDKs some sleep that long, while others do not come back at all."""


def judge_refusal(reason: Reason, wait: float, model: str, places: float, size: int) -> Failure:
    """A route's own gate does not let it in, which would have taken about `wait` seconds; 0 where
    that is not known."""
    why = {
        Reason.FULL: f"and {size} wait already",
        Reason.SHED: f"{size} wait already, and a more urgent one took its place",
        Reason.LATE: "and it could not be answered in the time that it has",
        Reason.TIMEOUT: "and it has waited as long as `queue`, `budget` or its own time let it",
    }[reason]
    known = f"; by those before it, a place takes about {wait:.2g} s" if wait >= _TOLD else ""
    return Failure(
        cause=reason,
        error=RateLimited(
            f"the model {model!r} has its {places} requests, {why}{known}",
            code=reason,
            retry_after=_worth_waiting(wait),
        ),
        why=Why.OVERLOADED,
        retry=False,
        blame=False,
        tells=Tells.NOBODY,
    )


def judge_over_budget(
    model: str,
    budget: LatencyBudget,
    timeout: float | None,
    forecast: Forecast,
    waited: float,
    prompt: int,
    output: float | None,
    excess: float,
    *,
    ever: bool = True,
) -> Failure:
    """Nobody would answer within the route's latency budget, or the client's own `timeout`;
    `excess` is by how many seconds. `ever`: somebody would who has nothing else to do."""
    first, total = forecast.first_token, forecast.total
    parts = [f"{prompt} tokens of prompt{_told(forecast.prefill)}"]
    if waited + (forecast.queue or 0.0) >= _TOLD:
        parts.insert(0, f"queue {waited + (forecast.queue or 0.0):.2g} s")
    if output is not None and total is not None:
        parts.append(f"about {output:.0f} tokens of answer{_told(forecast.decode)}")
    takes = []
    if first is not None:
        takes.append(f"its first token would take about {waited + first:.2g} s")
    if total is not None:
        about = "" if takes else "would take about "
        takes.append(f"the whole {about}{waited + total:.2g} s")
    allowed = [
        f"{name} {float(bound):g} s"
        for name, bound in (
            ("ttft", budget.ttft),
            ("total", budget.total),
            ("x-gateway-timeout", timeout),
        )
        if bound is not None
    ]
    message = (
        f"the model {model!r} would be late by {excess:.2g} s: {' and '.join(takes)} "
        f"({', '.join(parts)}); its budget is {', '.join(allowed)}"
    )
    if not ever:
        message += ". An idle engine would be late as well: ask for less, or give it longer"
    return Failure(
        cause=OVER_BUDGET,
        error=RateLimited(
            message, code=OVER_BUDGET, retry_after=_worth_waiting(excess) if ever else None
        ),
        why=Why.OVERLOADED,
        retry=False,
        blame=False,
        tells=Tells.NOBODY,
    )


def _told(seconds: float | None) -> str:
    return "" if seconds is None else f" {seconds:.2g} s"


def _worth_waiting(seconds: float) -> float:
    return min(max(seconds, RETRY_SOON), _COME_BACK_WITHIN)

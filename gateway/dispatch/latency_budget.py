"""Keep a route's latency budget: pass over who is too slow, and refuse early what would be late.

Rules of this file:

- A route without `budget` costs nothing here.
- What is not known keeps nobody out, and a replica that was not heard of for a while is asked
  again, now and then even where other routes keep it busy: else one bad minute would be believed
  for ever.
- Only a first try is refused. Once something has failed, here or on the route that this one stands
  in for, late is better than never.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import inf

from gateway.config import structs
from gateway.dispatch.ask import Ask
from gateway.dispatch.choice import Choice
from gateway.dispatch.turned_away import judge_over_budget
from gateway.dispatch.verdict import Failure
from gateway.policies.base import BYTES_PER_TOKEN
from gateway.routing.latency import STALE, Expected, Forecast, Lesson
from gateway.routing.load import ReplicaLoad
from gateway.routing.replica import Replica
from gateway.routing.table import Route
from gateway.wire.output_limit import output_limit

_MOST_ROUTES = 4096


class LatencyBudgets:
    """The owner of what is known of routes; what is known of a replica is the replica's."""

    def __init__(self) -> None:
        self._expected: dict[str, Expected] = {}

    def expected(self, route: Route) -> Expected:
        """What its requests are like, as far as they have come."""
        known = self._expected.get(route.name)
        if known is None:
            if len(self._expected) >= _MOST_ROUTES:
                self._expected.clear()
            known = self._expected[route.name] = Expected()
        return known

    def lesson(self, route: Route, choice: Choice) -> Lesson:
        """What is to be learnt of an attempt that has just begun."""
        load = choice.replica.load
        own = choice.tokens + choice.known
        # What of the prompt is known there is not known before somebody is picked, so it is left
        # out here too: on average the two agree.
        before = load.pending_tokens - choice.tokens + own
        return Lesson(load.rates, self.expected(route), before, own, time.monotonic())

    def narrow(
        self, ask: Ask, route: Route, candidates: Sequence[Replica], *, first: bool
    ) -> Sequence[Replica] | Failure:
        """Those of `candidates` who would be in time, of whom there is at least one.

        Where there is none: on the request's `first` try why not, later all of them.
        """
        assert route.budget is not None, "a route without a budget has no time to keep"
        now = time.monotonic()
        elapsed = now - ask.record.started
        first_token, total = _left(route.budget, ask, elapsed)
        tokens = len(ask.body) // BYTES_PER_TOKEN
        expected = self.expected(route)
        output = expected.output(output_limit(ask.body))
        in_time: list[Replica] = []
        soonest, forecast = inf, Forecast(None, None, None)
        for replica in candidates:
            its = replica.load.rates.forecast(replica.load.pending_tokens, tokens, output)
            excess = its.excess(first_token, total)
            if excess <= 0 or _has_a_chance(replica.load, now):
                in_time.append(replica)
            elif excess < soonest:
                soonest, forecast = excess, its
        if in_time or not first:
            return in_time or candidates
        unhurried = _left(route.budget, ask, 0.0)
        ever = any(
            replica.load.rates.forecast(0, tokens, output).excess(*unhurried) <= 0
            for replica in candidates
        )
        prompt = expected.prompt(tokens)
        return judge_over_budget(
            route.name, route.budget, ask.timeout, forecast, elapsed, prompt, output, soonest,
            ever=ever,
        )  # fmt: skip


def _left(
    budget: structs.LatencyBudget, ask: Ask, elapsed: float
) -> tuple[float | None, float | None]:
    """Seconds that are left for the first token and for all of it."""
    bounds = [one for one in (budget.total, ask.timeout) if one is not None]
    total = min(bounds) - elapsed if bounds else None
    if not ask.stream or budget.ttft is None:
        return None, total
    return budget.ttft - elapsed, total


def _has_a_chance(load: ReplicaLoad, now: float) -> bool:
    if now - load.rates.heard_at <= STALE:
        return False
    return not load.outstanding or load.rates.may_probe(now)

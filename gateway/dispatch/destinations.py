"""Where a request goes: to which variant of its model, and to which model after that one.

Decided in `passing_over`, by what is known now; who is passed over is noted and counted here.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from random import Random

from gateway.dispatch.ability import is_able
from gateway.dispatch.ask import Ask
from gateway.dispatch.passing_over import (
    Arm,
    PassedOver,
    arm_for,
    may_answer,
    next_route,
    why_none,
)
from gateway.dispatch.verdict import Failure, Why
from gateway.routing.replica import Replica
from gateway.routing.split import choose_among, choose_variant, sticky_key
from gateway.routing.table import Route, Variant
from gateway.telemetry.metrics import Metrics
from gateway.wire.conversation import beginning


class Destinations:
    """Has no state of its own."""

    def __init__(self, metrics: Metrics, rng: Random) -> None:
        self._metrics = metrics
        self._rng = rng

    def variant(self, ask: Ask, route: Route) -> Variant:
        """The variant for `ask`; where nobody there can or may serve it, another one."""
        if len(route.variants) == 1:
            return route.variants[0]
        now = time.monotonic()
        variant, passed_over = self._arm(ask, route, now)
        if passed_over is not None:
            why = why_none(passed_over.able(), now)
            self._note(ask, route.name, passed_over.name, why)
        return variant

    def stand_in(
        self, ask: Ask, route: Route, left: Sequence[Variant], failure: Failure
    ) -> Variant | None:
        """Which of the variants that are `left` is asked after one of `route` has failed so."""
        if not left or not failure.fall_back or failure.why is Why.CONTEXT:
            return None
        now = time.monotonic()
        there = [one for one in left if is_able(one, ask) and may_answer(one, now)]
        return choose_among(there, self.sticky_key(ask, route))

    def pass_over(
        self,
        ask: Ask,
        route: Route,
        variant: Variant | None,
        replicas: Sequence[Replica],
        asked: Collection[str],
    ) -> PassedOver | None:
        """Whether nobody of `replicas` is to be asked, because they may take no traffic, and
        those of a fallback may that is none of `asked`.

        They are of `variant`, or all of `route`.
        """
        now = time.monotonic()
        if any(one.may_take_traffic(now) for one in replicas):
            return None
        why = why_none(replicas, now)
        if not self.has_ready(ask, why, asked):
            return None
        self._note(ask, route.name, "" if variant is None else variant.name, why)
        return PassedOver(why)

    def has_ready(self, ask: Ask, why: Why, asked: Collection[str]) -> bool:
        """Whether there is a fallback, none of `asked`, where somebody may take traffic."""
        return any(self._is_ready(ask, one) for one in _fresh(ask, why, asked))

    def has_substitute(self, ask: Ask, route: Route, variant: Variant, replica: Replica) -> bool:
        """Whether somebody could be asked in the place of `replica`, which is one of `variant`."""
        now = time.monotonic()
        if any(one is not replica and one.may_take_traffic(now) for one in variant.able()):
            return True
        return self.has_ready(ask, Why.UNAVAILABLE, (route.name,))

    def next(
        self, ask: Ask, why: Why, asked: Collection[str], passed_over: list[Route]
    ) -> Route | None:
        """Whom to ask after somebody has failed for that reason, or was passed over."""
        return next_route(_fresh(ask, why, asked), passed_over, partial(self._is_ready, ask))

    def sticky_key(self, ask: Ask, route: Route) -> bytes:
        """What keeps `ask` together with others on `route`."""
        return sticky_key(
            route.sticky,
            user=ask.peeked.user,
            key_name=ask.key_name,
            headers=ask.client_headers,
            conversation=beginning(ask.peeked),
            random=self._rng.randbytes(16),
        )

    def _arm(self, ask: Ask, route: Route, now: float) -> Arm:
        key = self.sticky_key(ask, route)
        chosen = choose_variant(
            route, key_name=ask.key_name, headers=ask.client_headers, sticky_key=key
        )
        return arm_for(ask, route, chosen, key, now)

    def _is_ready(self, ask: Ask, route: Route) -> bool:
        """Whether `ask` would find somebody there who can serve it, and may take traffic."""
        now = time.monotonic()
        alone = len(route.variants) == 1
        variant = route.variants[0] if alone else self._arm(ask, route, now).variant
        return is_able(variant, ask) and may_answer(variant, now)

    def _note(self, ask: Ask, model: str, variant: str, why: Why) -> None:
        ask.record.passed_over += (f"{model}/{variant}" if variant else model,)
        self._metrics.passed_over(model, variant, why)


def falls_back(ask: Ask) -> bool:
    """Whether there are models that stand in for one whose engines are not there."""
    fallback = ask.route.fallback
    return bool(fallback.unavailable or fallback.overloaded)


def fallbacks(ask: Ask, why: Why) -> Iterator[Route]:
    """Those of the models it falls back to for that reason that the key may use."""
    for name in getattr(ask.route.fallback, why):
        route = ask.table.find(name)
        if route is not None and (ask.principal is None or ask.principal.may_use(route.name)):
            yield route


def _fresh(ask: Ask, why: Why, asked: Collection[str]) -> list[Route]:
    """Those of them that have not been asked: no model is asked twice."""
    return [one for one in fallbacks(ask, why) if one.name not in asked]

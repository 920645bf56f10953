"""Pass over those who may take no traffic, as long as somebody else may. Pure.

Rules of this file:

- Nobody who may take traffic is passed over, and nobody at all for one who may not: where nobody
  may, the best one is asked all the same, because a refusal helps nobody.
- A split gives way before a fallback does: another variant is the same model still. Whoever sticks
  to a variant is back there with the first request after it is.
- Whom nothing probes is not dead for ever: a breaker whose time is over lets one request through,
  and its replica counts as one that may take traffic for just that one.

Source: Envoy's priority levels, which go to the next one where a level is not healthy, and back to
the first where none is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from backends.readiness import Condition
from gateway.dispatch.ability import is_able
from gateway.dispatch.ask import Ask
from gateway.dispatch.verdict import Why
from gateway.routing.replica import Replica
from gateway.routing.split import choose_among
from gateway.routing.table import Route, Variant


class PassedOver(NamedTuple):
    """A route of which nobody is asked now, because another one can answer."""

    why: Why
    """Whose turn it is: the file has a list for each cause."""


class Arm(NamedTuple):
    """The variant that a request goes to."""

    variant: Variant
    passed_over: Variant | None = None
    """The one that it should have gone to, where nobody there may take traffic."""


def may_answer(variant: Variant, now: float) -> bool:
    """Whether somebody of `variant` may take traffic."""
    return any(one.may_take_traffic(now) for one in variant.able())


def why_none(replicas: Sequence[Replica], now: float) -> Why:
    """For which cause none of `replicas` may take traffic: too much to do, if that is all of it."""
    busy = [one.overloaded and one.condition(now) is Condition.RATE_LIMITED for one in replicas]
    return Why.OVERLOADED if busy and all(busy) else Why.UNAVAILABLE


def arm_for(ask: Ask, route: Route, chosen: Variant, sticky_key: bytes, now: float) -> Arm:
    """`chosen`, or whom of `route` to ask in its place: somebody able and there, else able."""
    able = is_able(chosen, ask)
    if able and may_answer(chosen, now):
        return Arm(chosen)
    others = [one for one in route.variants if one is not chosen and is_able(one, ask)]
    there = choose_among([one for one in others if may_answer(one, now)], sticky_key)
    if there is not None:
        return Arm(there, chosen if able else None)
    return Arm(chosen if able else choose_among(others, sticky_key) or chosen)


def next_route(
    fallbacks: Sequence[Route], passed_over: list[Route], is_ready: Callable[[Route], bool]
) -> Route | None:
    """Whom to ask next: the first of `fallbacks`, none of which was asked, that is ready. Where
    none is, the first that was passed over, which is taken out, and then the first at all.
    """
    ready = next((one for one in fallbacks if is_ready(one)), None)
    if ready is not None:
        return ready
    if passed_over:
        return passed_over.pop(0)
    return fallbacks[0] if fallbacks else None

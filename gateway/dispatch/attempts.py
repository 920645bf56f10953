"""THE attempt loop, and the only one: candidates → pick → send → judge → again, or an `Answer`.

Until an attempt has its first content, another one may take its place: on another replica of
the variant where there is one, then on the same one after a wait, then on another variant of the
model that is there, then on the fallback models. All requests together draw their retries from one
budget; the first try of a variant or a fallback is free, because it asks an engine that this
request has not burdened yet. After that, what an
engine breaks is `failover`'s to go on with.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Collection, Iterator, Sequence
from functools import partial
from random import Random

from backends.base import BackendError
from gateway.config import structs
from gateway.dispatch.ability import cannot_serve
from gateway.dispatch.admission import Admission, Pass
from gateway.dispatch.answer import Answer, open_answer
from gateway.dispatch.ask import Ask
from gateway.dispatch.attempt import Attempt, AttemptFailedError
from gateway.dispatch.candidates import candidates_for, wait_before
from gateway.dispatch.choice import Choice, choose
from gateway.dispatch.continuation import Continuation
from gateway.dispatch.destinations import Destinations, fallbacks, falls_back
from gateway.dispatch.failover import unbroken
from gateway.dispatch.hedge import Hedges, RouteHedging, Tried, shows_content
from gateway.dispatch.latency_budget import LatencyBudgets
from gateway.dispatch.passing_over import PassedOver
from gateway.dispatch.successors import Place
from gateway.dispatch.verdict import (
    Failure,
    Why,
    judge_not_ready,
    judge_timeout,
    more_telling,
    never_asked,
)
from gateway.dispatch.watchdog import WaitTooLongError
from gateway.routing.replica import Replica
from gateway.routing.retry_budget import RetryBudget
from gateway.routing.table import Route, Variant
from gateway.telemetry.metrics import Metrics


class Attempts:
    """The owner of retries."""

    def __init__(self, *, budget: structs.RetryBudget, metrics: Metrics, rng: Random) -> None:
        self._configured: structs.RetryBudget | None = None
        self.set_budget(budget)
        self._metrics = metrics
        self._hedges = Hedges(metrics)
        self._admission = Admission(metrics)
        self._budgets = LatencyBudgets()
        self._destinations = Destinations(metrics, rng)
        self._rng = rng

    def set_budget(self, budget: structs.RetryBudget) -> None:
        """Put `budget` in force; one that says the same goes on as it is."""
        if budget != self._configured:
            self._configured = budget
            self._budget = RetryBudget(budget.percent, budget.min_per_second, budget.window)

    def take_over(self, config: structs.Config) -> None:
        """Go on by a new configuration."""
        self.set_budget(config.retry_budget)
        self._admission.take_over(config.models, asyncio.get_running_loop().time())

    async def stop(self) -> None:
        """Be done with what outlives its request; nobody asks any more."""
        await self._hedges.stop()

    async def answer(self, ask: Ask) -> Answer:
        """Ask until somebody answers; raises the `GatewayError` of the most telling failure.

        The answer belongs to the caller, who must close it.
        """
        self._budget.request(time.monotonic())
        now = ask.watchdog.now()
        deadline = min(now + ask.route.timeouts.total, ask.deadline)
        if ask.timeout is not None and deadline <= now:
            raise never_asked(ask.timeout)
        failure: Failure | None = None
        route: Route | None = ask.route
        asked: set[str] = set()
        passed_over: list[Route] = []
        while route is not None:
            asked.add(route.name)
            on_route = self._on_route if route.concurrency is None else self._admitted
            outcome = await on_route(ask, route, deadline, asked)
            if isinstance(outcome, Answer):
                return outcome
            if isinstance(outcome, PassedOver):
                passed_over.append(route)
            else:
                failure = outcome if failure is None else more_telling(failure, outcome)
                if not outcome.fall_back:
                    break
            route = self._destinations.next(ask, outcome.why, asked, passed_over)
        assert failure is not None, "who is passed over is asked after all, at last"
        ask.record.cause = failure.cause
        raise failure.error

    async def _admitted(
        self, ask: Ask, route: Route, deadline: float, asked: Collection[str]
    ) -> Answer | Failure | PassedOver:
        """The same, for a route with a gate, once there is a place.

        It is kept through a backoff and while an engine starts: then there is no replica that
        others could use it on, and given back it would have to be won again behind later ones.
        """
        if falls_back(ask):
            replicas = [one for variant in route.variants for one in variant.able()]
            passed_over = self._destinations.pass_over(ask, route, None, replicas, asked)
            if passed_over is not None:
                return passed_over
        entered = await self._admission.enter(ask, route, deadline)
        if isinstance(entered, Failure):
            ask.record.route = route.name
            return entered
        try:
            outcome = await self._on_route(ask, route, deadline, asked)
        except BaseException:
            entered.give_back()
            raise
        if not isinstance(outcome, Answer):
            entered.give_back()
            return outcome
        entered.asked(outcome.attempt.asked_at)
        if outcome.whole is not None:
            entered.give_back(served=True)
        else:
            outcome.on_close = lambda: entered.give_back(served=outcome.attempt.is_complete)
        return outcome

    async def _on_route(
        self, ask: Ask, route: Route, deadline: float, asked: Collection[str]
    ) -> Answer | Failure | PassedOver:
        """Ask the variant whose turn it is; where that cannot answer, another one that may."""
        variant: Variant | None = self._destinations.variant(ask, route)
        left = list(route.variants)
        failure: Failure | None = None
        while variant is not None:
            outcome = await self._on_variant(ask, Place(route, variant), deadline, asked)
            if not isinstance(outcome, Failure):
                return outcome
            failure = outcome if failure is None else more_telling(failure, outcome)
            left.remove(variant)
            variant = self._destinations.stand_in(ask, route, left, outcome)
        assert failure is not None, "one variant at least is asked"
        return failure

    async def _on_variant(
        self, ask: Ask, place: Place, deadline: float, asked: Collection[str]
    ) -> Answer | Failure | PassedOver:
        route, variant = place
        ask.record.route, ask.record.variant = route.name, variant.name
        failure = cannot_serve(variant, ask)
        tried: list[Tried] = []
        while failure is None or (failure.retry and len(tried) < route.retry.attempts):
            choice = self._choose(ask, place, tried, asked)
            if isinstance(choice, Failure | PassedOver):
                return choice
            if choice is None or (
                tried
                and not await self._may_retry(ask, choice.replica, route.retry, tried, deadline)
            ):
                break
            if (
                route.hedge is None
                or len(variant.replicas) == 1
                or not shows_content(ask, choice.replica)
            ):
                outcome = await self.try_on(ask, place, choice, deadline)
                if isinstance(outcome, Failure):
                    tried.append(Tried(choice.replica, outcome))
            else:
                outcome = await self._hedged(ask, place, choice, tried, deadline)
            if isinstance(outcome, Answer):
                return unbroken(outcome, ask, place, deadline, self)
            failure = outcome
        assert failure is not None, "a variant without replicas cannot serve"
        return failure

    async def _hedged(
        self, ask: Ask, place: Place, choice: Choice, tried: list[Tried], deadline: float
    ) -> Answer | Failure:
        """One attempt, and a second where it is late; how they failed is added to `tried`."""
        assert place.route.hedge is not None, "a route without it is not hedged"
        hedging = self._hedges.of(place.route.name, place.route.hedge)
        if not tried:
            hedging.budget.request(ask.watchdog.now())
        answer, failed = await self._hedges.run(
            ask,
            hedging,
            choice,
            partial(self._lane, place, deadline),
            partial(self._another, ask, place, hedging, [choice.replica, *_replicas(tried)]),
        )
        tried += failed
        return tried[-1].failure if answer is None else answer

    async def _lane(
        self, place: Place, deadline: float, ask: Ask, choice: Choice
    ) -> Answer | Failure:
        return await self.try_on(ask, place, choice, deadline)

    def _another(
        self, ask: Ask, place: Place, hedging: RouteHedging, asked: Collection[Replica]
    ) -> Choice | None:
        """Whom to ask beside `asked`, if anybody, and if the budgets have room for it."""
        now = time.monotonic()
        others = [
            one for one in place.variant.able() if one not in asked and one.may_take_traffic(now)
        ]
        if not others or not hedging.budget.try_retry(now):
            return None
        if not self.take_retry(now):
            hedging.budget.give_back(now)
            return None
        if place.route.budget is None:
            return self.pick(ask, place, others)
        in_time = self._budgets.narrow(ask, place.route, others, first=False)
        assert not isinstance(in_time, Failure), "only a first try is refused"
        return self.pick(ask, place, in_time)

    async def try_on(
        self,
        ask: Ask,
        place: Place,
        choice: Choice,
        deadline: float,
        goes_on: Continuation | None = None,
    ) -> Answer | Failure:
        """One attempt, up to its first content: to answer `ask`, or to go on with its answer."""
        replica = choice.replica
        ask.record.replica = replica.id
        readying = replica.backend.readying(replica.address)
        if readying is not None:
            failure = await _until_ready(ask, replica, readying, deadline)
            if failure is not None:
                return failure
        ask.record.attempts += 1
        attempt = Attempt(
            ask,
            *place,
            choice,
            deadline=deadline,
            metrics=self._metrics,
            destinations=self._destinations,
            goes_on=goes_on,
        )
        if place.route.budget is not None and goes_on is None:
            attempt.lesson = self._budgets.lesson(place.route, choice)
        try:
            return await open_answer(attempt)
        except AttemptFailedError as failed:
            await attempt.close()
            return failed.failure
        except BaseException:
            await attempt.close()
            raise

    def _choose(
        self, ask: Ask, place: Place, tried: Sequence[Tried], asked: Collection[str]
    ) -> Choice | Failure | PassedOver | None:
        now = time.monotonic()
        route, variant = place
        candidates = candidates_for(variant.able(), tried, route.retry.max_backoff, now)
        if not candidates or (tried and not self._budget.has_room(now)):
            return None  # before the policy is asked: it takes whom it picks for one who is asked
        if falls_back(ask) and not candidates[0].may_take_traffic(now):
            if not tried:
                passed_over = self._destinations.pass_over(ask, route, variant, candidates, asked)
                if passed_over is not None:
                    return passed_over
            elif candidates[0] not in _replicas(tried) and self._destinations.has_ready(
                ask, tried[-1].failure.why, asked
            ):
                return None
        if route.budget is not None:
            first = not tried and not ask.record.attempts
            narrowed = self._budgets.narrow(ask, route, candidates, first=first)
            if isinstance(narrowed, Failure):
                return narrowed
            candidates = narrowed
        return self.pick(ask, place, candidates)

    def pick(self, ask: Ask, place: Place, candidates: Sequence[Replica]) -> Choice:
        """The one of `candidates`, replicas of `place`, to be asked; there is at least one."""
        return choose(
            place.variant,
            candidates,
            ask,
            session=partial(self._destinations.sticky_key, ask, place.route),
            now=time.monotonic(),
            rng=self._rng,
        )

    def try_enter(self, ask: Ask, route: Route) -> Pass | None:
        """A place behind the gate that `route` has, if there is one now."""
        return self._admission.try_enter(ask, route)

    def take_retry(self, at: float) -> bool:
        """Take one try out of the budget, at that time (monotonic s); False where it is spent."""
        return self._budget.try_retry(at)

    def give_back_retry(self, at: float) -> None:
        """Put back the one that was taken at that time, and not used."""
        self._budget.give_back(at)

    def chain(self, ask: Ask) -> Iterator[Route]:
        """The route asked for, then those that stand in for it where it is not there."""
        yield ask.route
        yield from fallbacks(ask, Why.UNAVAILABLE)

    async def _may_retry(
        self,
        ask: Ask,
        replica: Replica,
        retry: structs.Retry,
        tried: Sequence[Tried],
        deadline: float,
    ) -> bool:
        """Take a retry from the budget and wait as long as it must; False where it may not be."""
        wait = wait_before(replica, retry, tried, self._rng)
        if ask.watchdog.now() + wait >= deadline:
            return False
        taken = time.monotonic()
        if not self.take_retry(taken):
            return False
        if wait:
            try:
                await asyncio.sleep(wait)
            except asyncio.CancelledError:  # a client that leaves has caused none
                self.give_back_retry(taken)
                raise
        return True


def _replicas(tried: Sequence[Tried]) -> list[Replica]:
    return [one.replica for one in tried]


async def _until_ready(
    ask: Ask, replica: Replica, readying: Awaitable[None], deadline: float
) -> Failure | None:
    """Wait for an engine that is being started; why it does not come, if so.

    Only the whole request's time counts: no engine gives its first token while it loads.
    """
    try:
        await ask.watchdog.wait(readying, deadline)
    except WaitTooLongError:
        return judge_timeout(*ask.limit(deadline), replica.id)
    except BackendError as error:
        return judge_not_ready(error, replica.id)
    return None

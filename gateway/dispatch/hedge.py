"""A second attempt where the first one is late: whoever has content first gives the answer.

Rules of this file:

- Of a route without `hedge` nobody here hears.
- Streams, and answers in one piece whose adapter shows when their content begins. Of others nothing
  is seen before they are whole, so that one is long could not be told from that it is late.
- No more hedges than the route's share of its requests, and each one takes a retry out of the
  budget of all: a busy day makes everything late, and must not be doubled.
- Two attempts are two tasks, each with a watchdog of its own. The one that is overtaken is
  cancelled at the other's first content, and settles itself; the answer then belongs to the
  request's own task.

Source: J. Dean and L. A. Barroso, "The Tail at Scale" (Communications of the ACM, 2013).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import NamedTuple

import msgspec

from backends.units import Duration
from gateway.config import structs
from gateway.dispatch.answer import Answer
from gateway.dispatch.ask import Ask
from gateway.dispatch.choice import Choice
from gateway.dispatch.verdict import Failure
from gateway.routing.first_token_times import FirstTokenTimes
from gateway.routing.replica import Replica
from gateway.routing.retry_budget import RetryBudget
from gateway.telemetry import names
from gateway.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

WINDOW = 300.0
"""Seconds over which the share of hedges is kept."""
_MOST_ROUTES = 4096
_ENDING_TIME = 2.0
"""Seconds that overtaken attempts have at the gateway's end: as much as requests that are cut."""

TryOn = Callable[[Ask, Choice], Awaitable[Answer | Failure]]
Another = Callable[[], Choice | None]


class Tried(msgspec.Struct, frozen=True):
    """A replica that has failed this request, and how."""

    replica: Replica
    failure: Failure


class Outcome(NamedTuple):
    """What one or two attempts came to."""

    answer: Answer | None
    failed: Sequence[Tried]
    """Those that came to nothing, in the order in which they did."""


def shows_content(ask: Ask, replica: Replica) -> bool:
    """Whether it can be seen there when the answer begins: of a stream it can."""
    return ask.stream or ask.endpoint in replica.backend.shows_progress


class RouteHedging:
    """What one route has learnt, and what it may spend."""

    __slots__ = ("_delay", "_share", "budget", "configured", "name", "times")

    def __init__(self, name: str, configured: structs.Hedge) -> None:
        self.name = name
        self.configured = configured
        self.times = FirstTokenTimes()
        self.budget = RetryBudget(configured.max_percent, 0.0, WINDOW)
        quantile = configured.after.startswith("p")
        self._share = int(configured.after[1:]) / 100 if quantile else None
        self._delay = None if quantile else float(Duration.parse(configured.after))

    def delay(self) -> float | None:
        """Seconds after which an answer is late; None while that is not known."""
        return self._delay if self._share is None else self.times.quantile(self._share)


class Hedges:
    """The owner of all that, and of attempts that were overtaken and have still to end."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._routes: dict[str, RouteHedging] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def of(self, name: str, configured: structs.Hedge) -> RouteHedging:
        """What is known of the route called `name`; nothing, where its configuration is new."""
        known = self._routes.get(name)
        if known is None or known.configured != configured:
            if len(self._routes) >= _MOST_ROUTES:
                self._routes.clear()
            known = self._routes[name] = RouteHedging(name, configured)
        return known

    async def stop(self) -> None:
        """Wait until what was overtaken has let go of its engine, which is stopped next."""
        if self._ending:
            _, left = await asyncio.wait(self._ending, timeout=_ENDING_TIME)
            if left:
                logger.warning("%d overtaken attempts have not ended; cancelling them", len(left))
            for task in left:
                task.cancel()

    async def run(
        self, ask: Ask, route: RouteHedging, choice: Choice, try_on: TryOn, another: Another
    ) -> Outcome:
        """Try `choice`, and beside it what `another` gives, where that takes too long."""
        now = ask.watchdog.now
        delay = route.delay()
        began = now()
        if delay is None and ask.stream:
            outcome = await try_on(ask, choice)
            if isinstance(outcome, Failure):
                return Outcome(None, [Tried(choice.replica, outcome)])
            route.times.add(now() - began)
            return Outcome(outcome, [])
        lanes = [_Lane(ask, choice, try_on)]
        try:
            await asyncio.wait([lanes[0].begun], timeout=delay)
            if not lanes[0].begun.done() and (other := another()) is not None:
                lanes.append(_Lane(ask, other, try_on))
            winner = await _first_with_content(lanes)
            if winner is not None:
                # An overtaken first attempt took at least as long: left out, only fast ones
                # counted, and what is late would come to be sooner and sooner.
                route.times.add(now() - began)
            self._overtake(route, lanes, winner)
            if winner is not None and not winner.task.done():
                await asyncio.wait([winner.task])  # an answer in one piece: to its end
            return _outcome(ask, lanes, winner)
        except BaseException:
            for lane in lanes:
                self._end(lane, overtaken=False)
            raise

    def _overtake(self, route: RouteHedging, lanes: Sequence[_Lane], winner: _Lane | None) -> None:
        """Count the hedge, if there was one, and let go of who is not needed any more."""
        if len(lanes) > 1:
            self._metrics.hedged(route.name, _result(lanes, winner))
        for lane in lanes:
            if winner is not None and lane is not winner and not lane.has_failed():
                self._end(lane, overtaken=True)

    def _end(self, lane: _Lane, *, overtaken: bool) -> None:
        """Cancel what is not needed any more; it closes its attempt in its own time."""
        if lane.let_go:
            return
        lane.let_go = True
        lane.ask.overtaken = overtaken
        ending = asyncio.create_task(lane.end())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


class _Lane:
    """One of the attempts, in a task of its own."""

    def __init__(self, ask: Ask, choice: Choice, try_on: TryOn) -> None:
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done at its first content, or when it has come to nothing."""
        self.ask = msgspec.structs.replace(ask, on_content=self._begin)
        self.choice = choice
        self.ended_at = inf
        self.let_go = False
        self.task = asyncio.create_task(self._run(try_on))
        self.task.add_done_callback(lambda _: self._begin())

    def _begin(self) -> None:
        if not self.begun.done():
            self.begun.set_result(None)

    async def _run(self, try_on: TryOn) -> Answer | Failure:
        task = asyncio.current_task()
        assert task is not None
        watchdog = self.ask.watchdog = self.ask.watchdog.of(task)
        try:
            return await try_on(self.ask, self.choice)
        finally:
            self.ended_at = watchdog.now()
            watchdog.close()

    async def end(self) -> None:
        """Be done with it, whatever it has come to."""
        self.task.cancel()
        (outcome,) = await asyncio.gather(self.task, return_exceptions=True)
        if isinstance(outcome, Answer):  # it came in the same moment
            await outcome.close()

    def has_failed(self) -> bool:
        """Whether it has come to nothing by itself."""
        return (
            self.task.done()
            and not self.task.cancelled()
            and self.task.exception() is None
            and isinstance(self.task.result(), Failure)
        )

    def has_content(self) -> bool:
        """Whether there is some of it, or all. Raises what broke it."""
        if not self.task.done():
            return self.begun.done()
        return isinstance(self.task.result(), Answer)


async def _first_with_content(lanes: Sequence[_Lane]) -> _Lane | None:
    """The first lane whose attempt has content; None where none of them will."""
    waited = {lane.begun for lane in lanes}
    while waited:
        _, waited = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        for lane in lanes:
            if lane.has_content():
                return lane
    return None


def _outcome(ask: Ask, lanes: Sequence[_Lane], winner: _Lane | None) -> Outcome:
    """What it came to, now that it is over for all but those who were overtaken."""
    failed = [
        Tried(lane.choice.replica, lane.task.result())  # type: ignore[arg-type]
        for lane in sorted(lanes, key=lambda one: one.ended_at)
        if lane.has_failed()
    ]
    if winner is None:
        return Outcome(None, failed)
    outcome = winner.task.result()
    if not isinstance(outcome, Answer):
        return Outcome(None, failed)  # it broke off
    outcome.attempt.ask = ask  # from here on it is read in this task
    ask.record.replica = winner.choice.replica.id
    return Outcome(outcome, failed)


def _result(lanes: Sequence[_Lane], winner: _Lane | None) -> str:
    """How a hedge went: `won`, `lost` to the first attempt, or `failed` by itself."""
    if winner is lanes[1]:
        return names.HEDGE_WON
    return names.HEDGE_FAILED if lanes[1].has_failed() else names.HEDGE_LOST

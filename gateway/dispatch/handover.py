"""Hand an answer that broke off over to another replica: whom to ask, how, and for how long to try.

Rules of this file:

- What goes on is bounded: in attempts by the route's `failover`, in time by the request's `total`,
  and over all requests by the retry budget.
- Nobody's state is touched for an attempt that will not be made: the budget is asked before the
  policy picks, and a retry that was taken and not used is given back.
- The answer has a place on each route that makes it, as any other request; but it does not wait
  for one.
- Each replica that fails is told of by its own name, with its own cause.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from gateway.dispatch.ability import is_able
from gateway.dispatch.admission import Pass
from gateway.dispatch.answer import Answer, EventStream
from gateway.dispatch.ask import Ask
from gateway.dispatch.attempt import Attempt
from gateway.dispatch.choice import Choice
from gateway.dispatch.continuation import Continuation, continuation_for
from gateway.dispatch.failover_rules import CannotGoOnError, Standing, Way, choose_way
from gateway.dispatch.successors import Failed, Place, Search, says_the_same
from gateway.dispatch.verdict import DIVERGED, IDLE_TIMEOUT, Failure, judge_protocol
from gateway.dispatch.watchdog import WaitTooLongError
from gateway.routing.replica import Replica
from gateway.routing.table import Route
from gateway.wire.resume import Transcript
from gateway.wire.resume.continuation import Said
from gateway.wire.resume.sampling import read_sampling

logger = logging.getLogger(__name__)

_LOOK = 0.05
"""Seconds between two looks for a better replica."""


class Tries(Protocol):
    """What of the attempt loop it takes to go on with an answer."""

    def pick(self, ask: Ask, place: Place, candidates: Sequence[Replica]) -> Choice:
        """The one of `candidates`, replicas of `place`, to be asked."""
        ...

    def try_enter(self, ask: Ask, route: Route) -> Pass | None:
        """A place on `route`, which has a gate, if there is one now."""
        ...

    def take_retry(self, at: float) -> bool:
        """Take one try out of the budget, at that time (monotonic s); False where it is spent."""
        ...

    def give_back_retry(self, at: float) -> None:
        """Put back the one that was taken at that time, and not used."""
        ...

    async def try_on(
        self, ask: Ask, place: Place, choice: Choice, deadline: float, goes_on: Continuation | None
    ) -> Answer | Failure:
        """One attempt, up to its first content."""
        ...

    def chain(self, ask: Ask) -> Iterable[Route]:
        """The route asked for, and those it may fall back to."""
        ...


class Successor(NamedTuple):
    """Who goes on, and how."""

    stream: EventStream
    way: Way


class Handovers:
    """Those of one answer. Whoever has them must `close` them."""

    def __init__(
        self,
        first: EventStream,
        place: Place,
        deadline: float,
        tries: Tries,
        transcript: Transcript,
        leave_first: Callable[[], None],
    ) -> None:
        """`first` has begun the answer, at `place`; `leave_first` gives back its place there."""
        self._place = place
        self._deadline = deadline
        self._tries = tries
        self._transcript = transcript
        self._leave_first = leave_first
        self._began = first.attempt.replica.backend
        self._failed: dict[Replica, Failed] = {}
        self._broke = first.attempt.replica
        """Who has failed last."""
        self._failure: Failure | None = None
        """How that was."""
        self._diverged: set[Replica] = set()
        """Who has said something else when asked again."""
        self._took = 0.0
        """Seconds that it took to say what has been said, as far as one attempt has shown it."""
        self._tried = 0
        self._gate = place.route.gate
        """Behind which gate it is made now."""
        self._held: Pass | None = None
        """Its place there, where that is not the first one."""
        self._coming: Pass | None = None
        """A place for the attempt that may go on, where that is behind another gate."""

    def broke(self, attempt: Attempt, failure: Failure, lasted: float, way: Way | None) -> None:
        """Take note that the answer broke off on `attempt`, which took `lasted` seconds.

        `way`: how it went on with another one's, if it did.
        """
        if failure.cause is DIVERGED:
            self._diverged.add(attempt.replica)
            self._broke, self._failure = attempt.replica, failure
            return
        self._note(attempt.replica, failure)
        if failure.cause == IDLE_TIMEOUT:
            lasted = max(0.0, lasted - attempt.route.timeouts.idle)
        self._took = self._took + lasted if way is Way.CONTINUE else max(self._took, lasted)

    async def to_another(self, ask: Ask) -> Successor:
        """Whoever goes on, with the first content of its own. Raises `CannotGoOnError`.

        `ask` is the answer's, for the task that calls this.
        """
        while True:
            assert self._failure is not None, "an answer is handed over that broke off"
            if not self._failure.retry:
                raise CannotGoOnError(self._failure.error.message)
            if self._tried >= self._place.route.failover.attempts:
                raise CannotGoOnError(f"{self._tried} more attempts have been made")
            outcome = await self._another(ask)
            if isinstance(outcome, Successor):
                return outcome
            self._leave_coming()

    def last_words(self) -> str:
        """Who failed last, and how."""
        assert self._failure is not None, "an answer is handed over that broke off"
        return f"{self._broke.id} failed it ({self._failure.cause})"

    def close(self) -> None:
        """Give back all places. Idempotent."""
        self._leave_coming()
        self._leave()

    async def _another(self, ask: Ask) -> Successor | None:
        """One more attempt; None where that one fails as well."""
        standing = self._standing(ask)
        ways = self._ways(ask, standing)
        place, candidates = await self._find(ask, ways)
        taken = time.monotonic()
        if not self._tries.take_retry(taken):
            raise CannotGoOnError("the retry budget is spent")
        try:
            choice = self._tries.pick(ask, place, candidates)
            way = ways[choice.replica]
            goes_on = await self._continuation(ask, choice.replica) if way is Way.CONTINUE else None
        except BaseException:
            self._tries.give_back_retry(taken)
            raise
        self._tried += 1
        logger.warning(
            "request %s: %s; %s is asked to go on (%s)",
            ask.record.request_id, self.last_words(), choice.replica.id, way,
        )  # fmt: skip
        outcome = await self._tries.try_on(ask, place, choice, self._deadline, goes_on)
        if isinstance(outcome, EventStream):
            self._move(place.route)
            return Successor(outcome, way)
        if isinstance(outcome, Answer):
            await outcome.close()
            outcome = judge_protocol("answers without a stream", choice.replica.id)
        self._note(choice.replica, outcome)
        return None

    def _note(self, replica: Replica, failure: Failure) -> None:
        """`replica` has failed this answer."""
        before = self._failed.get(replica)
        times = 1 if before is None else before.times + 1
        self._failed[replica] = Failed(failure, times, time.monotonic())
        self._broke, self._failure = replica, failure

    def _standing(self, ask: Ask) -> Standing:
        transcript = self._transcript
        return Standing(
            endpoint=ask.endpoint,
            needs=ask.needs,
            sampling=read_sampling(ask.body),
            overfull=transcript.overfull,
            incomparable=transcript.incomparable,
            # What is at its end is asked for once more, for its usage, and not for more of it.
            only_text=bool(transcript.plain_text) and transcript.ending is None,
            took=self._took,
            left=self._deadline - ask.watchdog.now(),
            doubted=bool(self._diverged),
            last=self._tried + 1 >= self._place.route.failover.attempts,
        )

    def _ways(self, ask: Ask, standing: Standing) -> Mapping[Replica, Way]:
        """How each replica may go on that may at all. Raises `CannotGoOnError` where none may."""
        ways: dict[Replica, Way] = {}
        why: CannotGoOnError | None = None
        for place in self._places(ask):
            for replica in place.variant.able():
                diverged = replica in self._diverged
                how = msgspec.structs.replace(standing, diverged=diverged)
                try:
                    ways[replica] = choose_way(how, self._began, replica.backend)
                except CannotGoOnError as error:
                    why = why or error
        if not ways and why is not None:
            raise why
        return ways

    async def _find(self, ask: Ask, ways: Mapping[Replica, Way]) -> tuple[Place, Sequence[Replica]]:
        """Whom to ask. The client waits anyway: so do we, for somebody better than the last."""
        search = Search(
            places=self._places(ask),
            ways=ways,
            failed=self._failed,
            diverged=self._diverged,
            broke=self._broke,
            began=time.monotonic(),
            patience=self._place.route.retry.max_backoff,
        )
        while True:
            found = search.at(time.monotonic())
            if found is not None:
                if self._may_enter(ask, found[0].route):
                    return found
                search = search.without(found[0].route.gate)
                continue
            if ask.watchdog.now() >= self._deadline:
                raise CannotGoOnError("the request is out of time")
            await asyncio.sleep(_LOOK)

    async def _continuation(self, ask: Ask, replica: Replica) -> Continuation:
        said = self._transcript.plain_text
        assert said, "only what has text is continued"
        counting = replica.backend.count_text(replica.address, said.rstrip())
        try:
            tokens = await ask.watchdog.wait(counting, self._deadline)
        except WaitTooLongError:
            raise CannotGoOnError("the request is out of time") from None
        told = Said(said, self._transcript.had.pieces if tokens is None else tokens)
        return continuation_for(ask, replica.backend, told)

    def _places(self, ask: Ask) -> list[Place]:
        """Where the answer may be gone on with; the same weights elsewhere come last."""
        begun = self._place.variant
        if begun.checkpoint is None:
            return [self._place]
        others = [
            Place(route, variant)
            for route in self._tries.chain(ask)
            for variant in route.variants
            if variant is not begun and says_the_same(variant, begun)
        ]
        return [self._place, *(one for one in others if is_able(one.variant, ask))]

    def _may_enter(self, ask: Ask, route: Route) -> bool:
        """Whether it may be made there: behind another gate than now, it needs a place."""
        if route.concurrency is None or route.gate == self._gate:
            return True
        self._coming = self._tries.try_enter(ask, route)
        return self._coming is not None

    def _move(self, route: Route) -> None:
        """It is made there from now on."""
        if route.gate != self._gate:
            self._leave()
            self._gate, self._held, self._coming = route.gate, self._coming, None

    def _leave(self) -> None:
        """Give back the place that it has."""
        if self._held is not None:
            self._held.give_back()
        self._leave_first()

    def _leave_coming(self) -> None:
        if self._coming is not None:
            self._coming.give_back()
            self._coming = None

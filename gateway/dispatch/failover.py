"""An answer that outlives its replica: where one breaks off, another one goes on, in one stream.

Rules of this file:

- The client sees one answer: the same id, no character twice, none left out. Where that cannot be
  had, it is told what it would have been told without all this: how its replica failed.
- The attempt that failed is over, and settled, before another one is asked.
- What goes on is bounded: in attempts by the route's `failover`, in time by the request's `total`,
  and over all requests by the retry budget.
- It has a place on each route that makes it, as any other request; but it does not wait for one.
- A stream that never breaks pays for a list that grows, and for nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from gateway.dispatch.ability import is_able
from gateway.dispatch.admission import Pass
from gateway.dispatch.answer import Answer, EventStream
from gateway.dispatch.ask import Ask
from gateway.dispatch.attempt import AttemptFailedError
from gateway.dispatch.choice import Choice
from gateway.dispatch.continuation import Continuation, continuation_for
from gateway.dispatch.failover_rules import CannotGoOnError, Standing, Way, choose_way
from gateway.dispatch.successors import Failed, Place, Search, says_the_same
from gateway.dispatch.verdict import DIVERGED, Failure, judge_divergence, judge_protocol
from gateway.routing.replica import Replica
from gateway.routing.table import Route
from gateway.wire.peek import expected_choices
from gateway.wire.resume import TRANSCRIPTS, DivergedError, Splice, Transcript
from gateway.wire.resume.continuation import Said
from gateway.wire.resume.sampling import read_sampling

logger = logging.getLogger(__name__)

QUIET = 10.0
"""Seconds without a word, while an answer is said again, after which the client gets a comment: who
is between us may give up a connection on which nothing happens."""
_STILL_HERE = b": another replica goes on\n\n"
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

    def take_retry(self) -> bool:
        """Take one try out of the budget; False where it is spent."""
        ...

    async def try_on(
        self, ask: Ask, place: Place, choice: Choice, deadline: float, goes_on: Continuation | None
    ) -> Answer | Failure:
        """One attempt, up to its first content."""
        ...

    def chain(self, ask: Ask) -> Iterable[Route]:
        """The route asked for, and those it may fall back to."""
        ...


def unbroken(answer: Answer, ask: Ask, place: Place, deadline: float, tries: Tries) -> Answer:
    """`answer`, to be gone on with where it breaks off; as it is where nobody could."""
    transcript = TRANSCRIPTS.get(ask.endpoint)
    if (
        not isinstance(answer, EventStream)
        or transcript is None
        or not place.route.failover.attempts
        or (len(place.variant.replicas) == 1 and place.variant.checkpoint is None)
        or expected_choices(ask.peeked) > 1
    ):
        return answer
    return UnbrokenStream(answer, ask, place, deadline, tries, transcript())


class UnbrokenStream(Answer):
    """A stream that is made of as many attempts as it takes. Its head is that of the first."""

    is_stream = True

    def __init__(
        self,
        stream: EventStream,
        ask: Ask,
        place: Place,
        deadline: float,
        tries: Tries,
        transcript: Transcript,
    ) -> None:
        self.attempt = stream.attempt
        self.status, self.headers, self.whole = stream.status, stream.headers, None
        self._stream = stream
        self._ask = ask
        self._place = place
        self._deadline = deadline
        self._tries = tries
        self._transcript = transcript
        self._splice: Splice | None = None
        self._way: Way | None = None
        self._began = stream.attempt.replica.backend
        self._since = self._heard = ask.watchdog.now()
        self._failed: dict[Replica, Failed] = {}
        self._broke = stream.attempt.replica
        """The latest of them."""
        self._broken: AttemptFailedError | None = None
        """How that was: what the client is told if nobody goes on."""
        self._tried = 0
        self._diverged = False
        self._gate = place.route.gate
        """Where it is made now; its place there is `on_close`'s to give back, or `_held`."""
        self._held: Pass | None = None
        self._coming: Pass | None = None
        """A place for the attempt that may go on, where that is behind another gate."""
        self._ended = False
        """It is whole, although its last attempt is not."""

    async def __anext__(self) -> bytes:
        while not self._ended:
            try:
                block = await self._stream.__anext__()
                if self._splice is not None:
                    block = self._lacking(self._splice, block)
            except AttemptFailedError as broken:
                ending = await self._go_on(broken)
                if ending is None:
                    continue
                self._ended, block = True, ending
            if block:
                self._transcript.add(block)
                return block
            if not self._ended and self._is_quiet():
                return _STILL_HERE
        raise StopAsyncIteration

    async def close(self) -> None:
        """See `Answer.close`."""
        self._count()
        try:
            await self._stream.close()
        finally:
            self._leave_coming()
            self._leave()

    def _is_quiet(self) -> bool:
        """Whether the client has heard nothing for long: a replay may take as long as it took."""
        now = self._ask.watchdog.now()
        quiet = now - self._heard >= QUIET
        if quiet:
            self._heard = now
        return quiet

    def _lacking(self, splice: Splice, block: bytes) -> bytes:
        try:
            return splice.feed(block)
        except DivergedError as error:
            self._diverged = True
            self.attempt.fail(judge_divergence(str(error), self.attempt.replica.id))

    async def _go_on(self, broken: AttemptFailedError) -> bytes | None:
        """Have another replica go on; or the end of an answer that lacks nothing else.

        Raises `broken` where nobody can.
        """
        failure = broken.failure
        if failure.cause is DIVERGED and self._broken is not None:
            broken = self._broken  # this one has failed at helping only
        self._broken = broken
        self._heard = self._ask.watchdog.now()
        took = self._heard - self._since
        await self._over(failure)
        while True:
            try:
                if (ending := self._transcript.ending) is not None:
                    return ending
                outcome = await self._another(failure, took)
            except CannotGoOnError as why:
                self._log("the answer is broken off: %s", why)
                raise broken from None
            if isinstance(outcome, Failure):
                failure = outcome
                continue
            self._stream, self.attempt = outcome, outcome.attempt
            self._splice = self._transcript.splice(continued=self._way is Way.CONTINUE)
            return None

    async def _over(self, failure: Failure) -> None:
        """Be done with the attempt that has failed: the engine is let go first."""
        if failure.cause is not DIVERGED:
            self._note(self.attempt.replica, failure)
        self._count()
        await self._stream.close()

    async def _another(self, failure: Failure, took: float) -> EventStream | Failure:
        """Somebody who goes on, or how the next one failed as well. Raises `CannotGoOnError`."""
        if not failure.retry:
            raise CannotGoOnError(failure.error.message)
        if self._tried >= self._place.route.failover.attempts:
            raise CannotGoOnError(f"{self._tried} more attempts have been made")
        place, choice = await self._choose()
        way, goes_on = await self._way_of(choice.replica, took)
        if not self._tries.take_retry():
            raise CannotGoOnError("the retry budget is spent")
        self._tried += 1
        self._log(
            "it broke off on %s (%s); %s goes on (%s)",
            self._broke.id, failure.cause, choice.replica.id, way,
        )  # fmt: skip
        self._since = self._ask.watchdog.now()
        outcome = await self._tries.try_on(self._ask, place, choice, self._deadline, goes_on)
        if isinstance(outcome, EventStream):
            self._way = way
            self._move(place.route)
            self._ask.record.route, self._ask.record.variant = place.route.name, place.variant.name
            return outcome
        if isinstance(outcome, Answer):
            await outcome.close()
            outcome = judge_protocol("answers without a stream", choice.replica.id)
        self._leave_coming()
        self._note(choice.replica, outcome)
        return outcome

    def _note(self, replica: Replica, failure: Failure) -> None:
        """`replica` has failed this answer."""
        before = self._failed.get(replica)
        times = 1 if before is None else before.times + 1
        self._failed[replica] = Failed(failure, times, time.monotonic())
        self._broke = replica

    async def _choose(self) -> tuple[Place, Choice]:
        """Whom to ask. The client waits anyway: so do we, for somebody better than the last."""
        search = Search(
            places=self._places(),
            failed=self._failed,
            broke=self._broke,
            began=time.monotonic(),
            patience=self._place.route.retry.max_backoff,
        )
        while True:
            found = search.at(time.monotonic())
            if found is not None:
                place, candidates = found
                if self._may_enter(place.route):
                    return place, self._tries.pick(self._ask, place, candidates)
                search = search.without(place.route.gate)
                continue
            if self._ask.watchdog.now() >= self._deadline:
                raise CannotGoOnError("the request is out of time")
            await asyncio.sleep(_LOOK)

    def _may_enter(self, route: Route) -> bool:
        """Whether it may be made there: behind another gate than now, it needs a place."""
        if route.concurrency is None or route.gate == self._gate:
            return True
        self._coming = self._tries.try_enter(self._ask, route)
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
        if self.on_close is not None:
            self.on_close()

    def _leave_coming(self) -> None:
        if self._coming is not None:
            self._coming.give_back()
            self._coming = None

    def _places(self) -> list[Place]:
        """Where the answer may be gone on with; the same weights elsewhere come last."""
        begun = self._place.variant
        if begun.checkpoint is None:
            return [self._place]
        others = [
            Place(route, variant)
            for route in self._tries.chain(self._ask)
            for variant in route.variants
            if variant is not begun and says_the_same(variant, begun)
        ]
        return [self._place, *(one for one in others if is_able(one.variant, self._ask))]

    async def _way_of(self, replica: Replica, took: float) -> tuple[Way, Continuation | None]:
        ask, transcript = self._ask, self._transcript
        said = transcript.plain_text
        standing = Standing(
            endpoint=ask.endpoint,
            needs=ask.needs,
            sampling=read_sampling(ask.body),
            overfull=transcript.overfull,
            incomparable=transcript.incomparable,
            only_text=bool(said),
            took=took,
            left=self._deadline - ask.watchdog.now(),
            diverged=self._diverged,
        )
        way = choose_way(standing, self._began, replica.backend)
        if way is Way.REPLAY:
            return way, None
        assert said, "only what has text is continued"
        tokens = await replica.backend.count_text(replica.address, said.rstrip())
        told = Said(said, transcript.had.pieces if tokens is None else tokens)
        return way, continuation_for(ask, replica.backend, told)

    def _count(self) -> None:
        """Tell whether this attempt went on with the answer, and what of it the client had."""
        splice, self._splice = self._splice, None
        if splice is None or self._way is None:
            return
        if splice.caught_up:
            self.attempt.count_failover(self._way)
            self._ask.record.failovers += 1
        if self._way is Way.REPLAY:
            self.attempt.count_wasted(splice.repeated)

    def _log(self, message: str, *values: object) -> None:
        logger.warning("request %s: " + message, self._ask.record.request_id, *values)

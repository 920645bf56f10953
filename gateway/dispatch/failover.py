"""An answer that outlives its replica: where one breaks off, another one goes on, in one stream.

Rules of this file:

- The client sees one answer: the same id, no character twice, none left out. Where that cannot be
  had, it is told what it would have been told without all this: how its replica failed.
- The attempt that failed is over, and settled, before another one is asked.
- A client never hears nothing for long: who goes on is looked for in a task of its own, which ends
  with the stream, and meanwhile there is a comment now and then.
- A stream that never breaks pays for a list that grows, and for nothing else.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from gateway.dispatch.answer import Answer, EventStream
from gateway.dispatch.ask import Ask
from gateway.dispatch.attempt import Attempt, AttemptFailedError
from gateway.dispatch.failover_rules import CannotGoOnError, Way
from gateway.dispatch.handover import Handovers, Tries
from gateway.dispatch.successors import Place
from gateway.dispatch.verdict import DIVERGED, IDLE_TIMEOUT, judge_divergence
from gateway.routing.table import Variant
from gateway.wire.peek import expected_choices
from gateway.wire.resume import TRANSCRIPTS, DivergedError, Splice, Transcript
from gateway.wire.resume.sampling import read_sampling

logger = logging.getLogger(__name__)

QUIET = 10.0
"""Seconds without a word, while another replica comes to go on, after which the client gets a
comment: who is between us may give up a connection on which nothing happens."""
_STILL_HERE = b": the answer goes on soon\n\n"


def unbroken(answer: Answer, ask: Ask, place: Place, deadline: float, tries: Tries) -> Answer:
    """`answer`, to be gone on with where it breaks off; as it is where nobody could."""
    transcript = TRANSCRIPTS.get(ask.endpoint)
    if (
        not isinstance(answer, EventStream)
        or transcript is None
        or not place.route.failover.attempts
        or not (place.variant.checkpoint or is_outlived(place.variant))
        or expected_choices(ask.peeked) > 1
    ):
        return answer
    return UnbrokenStream(answer, ask, place, deadline, tries, transcript())


def is_outlived(variant: Variant) -> bool:
    """Whether somebody of `variant` may be there after one of its engines has ended."""
    return len(variant.replicas) > 1 or variant.replicas[0].backend.restarts


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
        stream.goes_on = True
        self._ask = ask
        self._place = place
        self._deadline = deadline
        self._tries = tries
        self._transcript = transcript
        self._handovers: Handovers | None = None
        """Where it has broken off before."""
        self._going_on: asyncio.Task[bytes | None] | None = None
        """Looks for who goes on. Gives the end of an answer that lacks nothing else, if so."""
        self._splice: Splice | None = None
        self._way: Way | None = None
        """How the present attempt goes on with another one's answer."""
        self._since = self._heard = ask.watchdog.now()
        """When the present attempt began to be read; when the client has heard of us last, as far
        as it matters: where nothing that it lacks comes."""
        self._broken: tuple[Attempt, AttemptFailedError] | None = None
        """The latest attempt that gave the client something, and how it broke off: what the client
        is told if nobody goes on."""
        self._ended = False
        """It is whole, although its last attempt is not."""

    async def __anext__(self) -> bytes:
        while not self._ended:
            try:
                if self._going_on is not None:
                    block = await self._gone_on(self._going_on)
                else:
                    block = await self._stream.__anext__()
                    if self._splice is not None:
                        block = self._lacking(self._splice, block)
            except AttemptFailedError as failed:
                if self._going_on is not None:
                    raise
                self._break(failed)
                continue
            if block:
                self._transcript.add(block)
                return block
            if not self._ended and self._is_quiet():
                return _STILL_HERE
        raise StopAsyncIteration

    async def close(self) -> None:
        """See `Answer.close`."""
        try:
            if self._going_on is not None:
                self._going_on.cancel()
                await asyncio.gather(self._going_on, return_exceptions=True)
        finally:
            self._count_wasted()
            try:
                await self._stream.close()
            finally:
                if self._handovers is None:
                    self._leave_first()
                else:
                    self._handovers.close()

    def _break(self, failed: AttemptFailedError) -> None:
        """The present attempt is no more: have another one go on."""
        failure, now = failed.failure, self._ask.watchdog.now()
        if self._handovers is None:
            self._handovers = Handovers(
                self._stream,
                self._place,
                self._deadline,
                self._tries,
                self._transcript,
                self._leave_first,
            )
        self._handovers.broke(self.attempt, failure, now - self._since, self._way)
        helped = self._splice is None or self._splice.went_on
        if helped and failure.cause is not DIVERGED:
            self._broken = self.attempt, failed
            silent = self.attempt.route.timeouts.idle if failure.cause == IDLE_TIMEOUT else 0.0
            self._heard = now - silent
        self._going_on = asyncio.create_task(self._go_on(self._handovers))

    async def _gone_on(self, going_on: asyncio.Task[bytes | None]) -> bytes:
        """Wait for who goes on, no longer than the client may hear nothing.

        Gives the end of the answer where only that lacks. Raises `AttemptFailedError` where nobody
        goes on.
        """
        left = self._heard + QUIET - self._ask.watchdog.now()
        await asyncio.wait([going_on], timeout=max(left, 0.0))
        if not going_on.done():
            return b""
        ending = going_on.result()
        self._going_on = None
        self._ended = ending is not None
        return ending or b""

    async def _go_on(self, handovers: Handovers) -> bytes | None:
        """Have another replica go on; or the end of an answer that lacks nothing else.

        Raises `AttemptFailedError`, the client's, where nobody can.
        """
        task = asyncio.current_task()
        assert task is not None
        assert self._broken is not None
        lost, error = self._broken
        answers = lost
        ending: bytes | None = None
        ask = msgspec.structs.replace(self._ask, watchdog=self._ask.watchdog.of(task))
        try:
            self._count_wasted()
            await self._stream.close()  # the engine is let go first
            ending = self._transcript.ending
            if ending is not None and not self._lacks_usage():
                return ending
            stream, way = await handovers.to_another(ask)
            answers = stream.attempt
        except CannotGoOnError as why:
            if ending is not None:
                return ending
            logger.warning(
                "request %s: %s; the answer stays broken off, as %s had left it: %s",
                ask.record.request_id, handovers.last_words(), lost.replica.id, why,
            )  # fmt: skip
            raise error from None
        finally:
            ask.watchdog.close()
            self._tell_of(answers)
        stream.attempt.ask = self._ask  # from here on it is read in the request's own task
        stream.goes_on = True
        self._stream, self.attempt, self._way = stream, stream.attempt, way
        self._since = stream.attempt.asked_at
        self._splice = self._transcript.splice(continued=way is Way.CONTINUE)
        return None

    def _lacks_usage(self) -> bool:
        return not self._transcript.has_usage and read_sampling(self._ask.body).counted

    def _tell_of(self, attempt: Attempt) -> None:
        """It is that attempt's answer which the client has, whoever was asked meanwhile."""
        record = self._ask.record
        record.route, record.variant = attempt.route.name, attempt.variant.name
        record.replica = attempt.replica.id

    def _is_quiet(self) -> bool:
        """Whether the client has heard nothing for long; then it does now."""
        now = self._ask.watchdog.now()
        quiet = now - self._heard >= QUIET
        if quiet:
            self._heard = now
        return quiet

    def _lacking(self, splice: Splice, block: bytes) -> bytes:
        had_gone_on = splice.went_on
        try:
            block = splice.feed(block)
        except DivergedError as error:
            self.attempt.fail(judge_divergence(str(error), self.attempt.replica.id))
        if splice.went_on and not had_gone_on:
            assert self._way is not None, "a splice is that of an attempt that goes on"
            self.attempt.count_failover(self._way)
            self._ask.record.failovers += 1
        return block

    def _count_wasted(self) -> None:
        """Tell what of the present attempt the client had had."""
        splice, self._splice = self._splice, None
        if splice is not None and self._way is Way.REPLAY:
            self.attempt.count_wasted(splice.repeated)

    def _leave_first(self) -> None:
        if self.on_close is not None:
            self.on_close()

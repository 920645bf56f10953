"""One try of one request on one replica: send it, wait for its first content, settle it.

Rules of this file:

- Whatever way an attempt ends, `close` settles it exactly once: the engine's work is stopped,
  the counts go back, the breaker, the metrics and the span learn how it went.
- Every wait has a deadline: `first_token` until a stream's first content, `idle` between two
  events of it, and `total` over all, attempts before this one included. For an answer in one piece
  `Patience` says what takes the place of the first two.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from math import inf
from typing import NoReturn, TypeVar

from backends.base import BackendError, Endpoint, Reply, Request
from backends.malformed import MALFORMED
from gateway.dispatch.ask import Ask
from gateway.dispatch.choice import Choice
from gateway.dispatch.continuation import Continuation, completed
from gateway.dispatch.destinations import Destinations
from gateway.dispatch.patience import Patience
from gateway.dispatch.translate import (
    asked_endpoint,
    in_clients_words,
    translated,
    translation_for,
)
from gateway.dispatch.verdict import (
    DEADLINE_EXCEEDED,
    FIRST_TOKEN_TIMEOUT,
    IDLE_TIMEOUT,
    REPLICA_SILENT,
    TOTAL_TIMEOUT,
    Failure,
    Why,
    judge_exception,
    judge_silent,
    judge_timeout,
)
from gateway.dispatch.watchdog import WaitTooLongError
from gateway.errors import BadRequest
from gateway.routing.latency import Lesson
from gateway.routing.table import Route, Variant
from gateway.telemetry import names
from gateway.telemetry.metrics import Metrics
from gateway.wire.peek import expected_choices
from gateway.wire.rename import with_model, with_priority
from gateway.wire.translate import Translation
from gateway.wire.watch import watch_for

T = TypeVar("T")

_PRIORITIZED = (Endpoint.CHAT, Endpoint.COMPLETIONS)
"""Where they know the field."""


class AttemptFailedError(Exception):
    """This try has come to nothing, or broke off; `failure` says what follows."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.error.message)
        self.failure = failure


class Attempt:
    """One try. Whoever makes it must `close` it."""

    def __init__(
        self,
        ask: Ask,
        route: Route,
        variant: Variant,
        choice: Choice,
        *,
        deadline: float,
        metrics: Metrics,
        destinations: Destinations,
        goes_on: Continuation | None = None,
    ) -> None:
        """`deadline`: when the whole request must be over, in the watchdog's time. `goes_on`: what
        to ask in place of the request, so as to go on with an answer.
        """
        replica = choice.replica
        self.ask = ask
        self.route = route
        self.variant = variant
        self.replica = replica
        self.lesson: Lesson | None = None
        """What is learnt of it, where its route has a latency budget."""
        self.reply: Reply | None = None
        self._metrics = metrics.attempts(route.name, variant.name, replica.id)
        self._destinations = destinations
        self._goes_on = goes_on
        self._total_by = deadline
        self.asked_at = ask.watchdog.now()
        """In the watchdog's time."""
        self._first_token_by = self.asked_at + route.timeouts.first_token if ask.stream else inf
        self._committed = False
        self._heard = True
        self._silent_since = 0.0
        self._out_of = ""
        """What has ended a wait before the first content."""
        self._cause = names.CANCELLED
        self._failure: Failure | None = None
        self._translation: Translation | None = None
        self._settled = False
        self._started = time.monotonic()
        self._patience = Patience(replica, route.timeouts, self._started, streamed=ask.stream)
        self._epoch = replica.breaker.sent(self._started)
        # An alias is the client's word for the model; a fallback is a model of its own.
        self._upstream = variant.upstream_model(ask.model if route is ask.route else route.name)
        if variant.adapter is not None:
            named = replica.backend.model_of(replica.address, variant.adapter)
            self._upstream = self._upstream if named is None else named
        self._span = ask.span.attempt(
            number=ask.record.attempts,
            provider=replica.backend.provider,
            variant=variant.name,
            replica=replica.id,
            model=self._upstream,
        )
        self._metrics.in_flight.count += 1
        self._tokens = choice.tokens
        self._work = replica.load.begin(self._started, choice.tokens, choice.known)

    @property
    def reported_model(self) -> str:
        """What the answer shall call the model: the client's word, unless another one answers."""
        return self.ask.model if self.route is self.ask.route else self.route.name

    @property
    def asked_model(self) -> str:
        """What the engine was told to call the model."""
        return self._upstream

    @property
    def is_complete(self) -> bool:
        """Whether its answer has come, whole and sound."""
        return self._cause == names.OK

    async def send(self) -> Reply:
        """Ask the replica; returns when its status is known. Raises `AttemptFailedError`."""
        ask, goes_on = self.ask, self._goes_on
        if goes_on is None:
            translation = translation_for(ask, self.replica.backend)
            endpoint = ask.endpoint if translation is None else asked_endpoint(ask.endpoint)
            body = ask.body if translation is None else translation.body
        else:
            translation, endpoint, body = goes_on.translation, goes_on.endpoint, goes_on.body
        self._translation = translation
        request = Request(
            endpoint=endpoint,
            body=self._body(body, endpoint),
            headers=self._span.propagate(ask.engine_headers),
            stream=ask.stream,
            connect_timeout=self.route.timeouts.connect,
            adapter=self.variant.adapter,
            on_progress=None if ask.stream else self._progress_of(endpoint),
        )
        reply = await self._bounded(self.replica.backend.send(self.replica.address, request))
        if goes_on is not None:
            reply = completed(reply, goes_on)
        self.reply = reply if translation is None else translated(reply, translation, ask.endpoint)
        return self.reply

    async def read(self) -> bytes:
        """The next piece of the body, empty at its end. Raises `AttemptFailedError`."""
        assert self.reply is not None, "nothing to read before send"
        try:
            return await self._bounded(self.reply.body.__anext__())
        except StopAsyncIteration:
            return b""

    def commit(self) -> None:
        """The first content exists: from here on it is the `idle` timeout that counts."""
        self._committed = True
        now = time.monotonic()
        if self.ask.stream:
            self._generates(now)
        else:
            self.replica.answers(self._epoch, now, None, self._tokens)

    def heard(self, something: bool) -> None:
        """Whether what was read last says anything. What only keeps a connection alive does not:
        it comes from an engine's server, while the engine itself may hang.
        """
        self._heard = something
        if something and self._committed:  # a stream may be long, and others wait for its place
            self.replica.answered_at = time.monotonic()

    def count_failover(self, way: str) -> None:
        """It has gone on with another one's answer."""
        self._metrics.went_on(way)
        self._span.went_on(way)

    def count_wasted(self, tokens: int) -> None:
        """It has said so many tokens once more."""
        self._metrics.wasted(tokens)

    def complete(self) -> None:
        """The answer has come, whole and sound."""
        self._cause = names.OK

    def fail(self, failure: Failure) -> NoReturn:
        """Note why this try has come to nothing, and leave it."""
        failure = in_clients_words(failure, self._translation)
        self._failure = failure
        self._cause = failure.cause
        raise AttemptFailedError(failure)

    async def close(self) -> None:
        """Stop the engine's work and settle the attempt. Idempotent."""
        if self._settled:
            return
        self._settled = True
        self._settle()
        if self.reply is not None:
            await self.reply.body.aclose()

    def _body(self, body: bytes, endpoint: Endpoint) -> bytes:
        """`body` with the engine's own name for the model, and how urgent it is."""
        ask = self.ask
        urgency = ask.priority.for_engines if self.replica.backend.takes_priority else 0
        if self._upstream == ask.model and not urgency:
            return body
        try:
            if urgency and endpoint in _PRIORITIZED:
                body = with_priority(body, urgency)
            return with_model(body, ask.model, self._upstream)
        except MALFORMED as error:
            raise BadRequest(
                f"the request body is not valid JSON: {error}", code="invalid_json"
            ) from None

    def _progress_of(self, endpoint: Endpoint) -> Callable[[bytes], None] | None:
        """What the adapter shall tell the events of an answer in one piece to, if it makes it of
        any."""
        if endpoint not in self.replica.backend.shows_progress:
            return None
        self._patience.watch = watch_for(endpoint, expected_choices(self.ask.peeked))
        return self._progressed

    def _generates(self, now: float) -> None:
        """The first token is there."""
        self._work.first_token(now)
        if self.lesson is not None:
            self.lesson.first_token(now)
        self.replica.answers(self._epoch, now, now - self._started, self._tokens)

    def _progressed(self, block: bytes) -> None:
        """Events have come of what becomes an answer in one piece."""
        now = time.monotonic()
        first = not self._patience.has_content
        if not self._patience.heard(block, now):
            return
        self.replica.answered_at = now
        if first:
            self._generates(now)
            if self.ask.on_content is not None:
                self.ask.on_content()

    def _settle(self) -> None:
        now = time.monotonic()
        self._metrics.in_flight.count -= 1
        if self.ask.overtaken and self._cause == names.CANCELLED:
            self._cause = names.OVERTAKEN
            if not self._committed:
                self._work.overtaken(now)
        if self.lesson is not None and self._cause == names.OK:
            record = self.ask.record
            self.lesson.over(now, record.input_tokens, record.output_tokens)
        self._work.end()
        self._tell_replica(now)
        self._metrics.finished(self.ask.endpoint, self._cause, now - self._started)
        self._span.end(self._cause, None if self.reply is None else self.reply.status)

    def _tell_replica(self, now: float) -> None:
        replica, failure, epoch = self.replica, self._failure, self._epoch
        if failure is None:
            if self._cause == names.OK:
                replica.answered_at = now
                replica.succeeded(epoch)
            else:
                replica.undecided(epoch, now)
            return
        if failure.blame:
            replica.failed(epoch, now, self._cause, misconfigured=failure.misconfigured)
        elif failure.loading:
            replica.undecided(epoch, now)
            replica.loads(failure.loading, now)
        elif failure.overloaded or self._cause in (DEADLINE_EXCEEDED, TOTAL_TIMEOUT):
            replica.undecided(epoch, now)
        else:
            replica.succeeded(epoch)
        if failure.retry_after is not None:
            overloaded = failure.why is Why.OVERLOADED
            replica.leave_alone(now + failure.retry_after, overloaded=overloaded)

    async def _bounded(self, awaitable: Awaitable[T]) -> T:
        watchdog = self.ask.watchdog
        due, cause = self._next_deadline(watchdog.now())
        waits_on = None if self._committed else self._prolonged
        try:
            return await watchdog.wait(awaitable, due, waits_on)
        except WaitTooLongError:
            cause = cause if waits_on is None else self._out_of
            if cause == REPLICA_SILENT:
                self.fail(judge_silent(self.replica.id))
            had = watchdog.now() - self.asked_at
            self.fail(judge_timeout(*self._allowed(cause), self.replica.id, had))
        except BackendError as error:
            self.fail(judge_exception(error, self.replica.id))

    def _next_deadline(self, now: float) -> tuple[float, str]:
        """When, and why: an empty reason where it is the whole request's time that is over."""
        if self._committed:
            if self._heard:
                self._silent_since = now
            due, cause = self._silent_since + self.route.timeouts.idle, IDLE_TIMEOUT
        else:
            due, cause = min(now + self._patience.look, self._first_token_by), ""
        return (due, cause) if due < self._total_by else (self._total_by, "")

    def _prolonged(self, now: float) -> float:
        """When to look again whether to wait on for the first content; or that it is over."""
        self._out_of = ""
        if now >= self._total_by:
            return self._total_by
        if self.replica.is_silent(self._started) and self._destinations.has_substitute(
            self.ask, self.route, self.variant, self.replica
        ):
            self._out_of = REPLICA_SILENT
            return now
        left, cause = self._patience.left(time.monotonic())
        if left <= 0:
            self._out_of = cause
            return now
        return min(now + min(left, self._patience.look), self._total_by)

    def _allowed(self, cause: str) -> tuple[str, float]:
        if cause == FIRST_TOKEN_TIMEOUT:
            return cause, self.route.timeouts.first_token
        return (cause, self.route.timeouts.idle) if cause else self.ask.limit(self._total_by)

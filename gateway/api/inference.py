"""The one inference handler: all endpoints, streaming or not, go through here.

An ASGI app of its own rather than a handler's return value: what it sends is bytes as they
come, and a framework's response object would be built for every request only to be taken apart.
"""

from __future__ import annotations

import asyncio
import logging
import time
from math import inf

from litestar.types import Receive, Scope, Send

from backends.base import Endpoint
from gateway.api import headers as fields
from gateway.api import wishes
from gateway.api.auth import Authenticator
from gateway.api.body import ClientGoneError, read_body
from gateway.api.client_watch import ClientWatch
from gateway.api.exchange import Exchange
from gateway.api.relay import relay
from gateway.control.drain import Drain, Phase, shutting_down
from gateway.control.state import Snapshot, State
from gateway.dispatch.ask import Ask
from gateway.dispatch.attempt import AttemptFailedError
from gateway.dispatch.attempts import Attempts
from gateway.dispatch.watchdog import Watchdog, Watchdogs
from gateway.errors import Dialect, GatewayError, InternalError
from gateway.routing.principal import Principal
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.record import RequestRecord
from gateway.telemetry.tracing import RequestSpan, Tracing
from gateway.wire.fields import Fields
from gateway.wire.needs import needs
from gateway.wire.peek import peek

logger = logging.getLogger(__name__)

_DIALECTS = {
    Endpoint.MESSAGES: Dialect.ANTHROPIC,
    Endpoint.COUNT_TOKENS: Dialect.ANTHROPIC,
    Endpoint.RESPONSES: Dialect.RESPONSES,
}

_LAST_WORD = 1.0
"""Seconds that a cut request has to tell its client: less than the drain waits for it."""

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that left before its answer began; nobody receives it."""


class Inference:
    """An ASGI app that answers one endpoint."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        authenticator: Authenticator,
        state: State,
        attempts: Attempts,
        drain: Drain,
        watchdogs: Watchdogs,
        metrics: Metrics,
        tracing: Tracing,
        access_log: AccessLog | None,
    ) -> None:
        self._endpoint = endpoint
        self._dialect = _DIALECTS.get(endpoint, Dialect.OPENAI)
        self._authenticator = authenticator
        self._state = state
        self._attempts = attempts
        self._drain = drain
        self._watchdogs = watchdogs
        self._metrics = metrics
        self._in_flight = metrics.requests_in_flight(endpoint)
        self._tracing = tracing
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = fields.of(scope)
        record = RequestRecord(
            request_id=fields.request_id(headers),
            endpoint=self._endpoint,
            started=time.monotonic(),
            started_at=time.time(),
        )
        span = self._tracing.request(record, headers.all)
        try:
            with self._in_flight:
                exchange = Exchange(send, record, self._dialect)
                await self._serve(exchange, headers, scope, receive, span)
        finally:
            record.ended_at = time.monotonic()
            self._metrics.request_finished(record)
            span.end(record)
            if self._access_log is not None:
                self._access_log.write(record)

    async def _serve(
        self,
        exchange: Exchange,
        headers: Fields,
        scope: Scope,
        receive: Receive,
        span: RequestSpan,
    ) -> None:
        """Answer, until the client leaves or the gateway must."""
        task = asyncio.current_task()
        assert task is not None
        watchdog = self._watchdogs.watch(task)
        client = ClientWatch(scope, task)
        try:
            self._drain.admit(task)
            principal, body = await self._read(headers, exchange.record, receive, watchdog)
            client.start()
            snapshot = self._state.enter()
            try:
                ask = self._ask(snapshot, headers, principal, body, exchange.record, span, watchdog)
                await self._answer(ask, exchange, client)
            finally:
                self._state.leave(snapshot)
        except asyncio.CancelledError:
            if client.gone:
                task.uncancel()
                _note_gone(exchange.record)
            elif self._drain.phase is Phase.CUT:
                task.uncancel()
                await self._fail(exchange, shutting_down(), client, within=_LAST_WORD)
            else:
                raise
        except ClientGoneError:
            _note_gone(exchange.record)
        except Exception as error:
            await self._fail(exchange, error, client)
        finally:
            client.stop()
            watchdog.close()
            self._drain.done(task)

    async def _fail(
        self,
        exchange: Exchange,
        error: Exception,
        client: ClientWatch,
        *,
        within: float | None = None,
    ) -> None:
        """Tell the client what went wrong, or drop it where it does not take that in time.

        How long it may leave it unread is the server's to bound; a cut ends that too.
        """
        client.stop()
        try:
            async with asyncio.timeout(within):
                await self._tell(exchange, error)
        except (TimeoutError, asyncio.CancelledError):
            client.abort()

    async def _tell(self, exchange: Exchange, error: Exception) -> None:
        match error:
            case GatewayError():
                await exchange.fail(error)
            case AttemptFailedError(failure=failure):
                await exchange.fail(failure.error, cause=failure.cause)
            case _:
                request_id = exchange.record.request_id
                logger.error("request %s hit a bug of the gateway", request_id, exc_info=error)
                await exchange.fail(InternalError(request_id))

    async def _read(
        self, headers: Fields, record: RequestRecord, receive: Receive, watchdog: Watchdog
    ) -> tuple[Principal | None, bytes]:
        """Who asks, and the body. Raises `GatewayError`, or `ClientGoneError`.

        No snapshot is held meanwhile: a body may take its time, and would keep alive what a
        reload has replaced.
        """
        config = self._state.snapshot.config
        principal = self._authenticator.identify(config.keys, headers)
        if principal is not None:
            record.principal = principal.name
        return principal, await read_body(receive, headers, config.server.limits, watchdog)

    def _ask(
        self,
        snapshot: Snapshot,
        headers: Fields,
        principal: Principal | None,
        body: bytes,
        record: RequestRecord,
        span: RequestSpan,
        watchdog: Watchdog,
    ) -> Ask:
        """Everything that is known before anybody is asked. Raises `GatewayError`."""
        timeout = wishes.timeout(headers)
        priority = wishes.priority(headers, principal)
        peeked = peek(self._endpoint, body)
        record.model = peeked.model
        record.stream = peeked.stream is True
        route = snapshot.table.resolve(peeked.model, principal.may_use if principal else None)
        record.route = route.name
        if principal is not None:
            principal.require(route)
            body = wishes.within_rank(body, peeked, principal)
        return Ask(
            endpoint=self._endpoint,
            body=body,
            peeked=peeked,
            model=record.model,
            stream=record.stream,
            needs=needs(self._endpoint, peeked, body),
            client_headers=headers,
            engine_headers=fields.for_engine(headers, record.request_id),
            table=snapshot.table,
            route=route,
            principal=principal,
            record=record,
            span=span,
            watchdog=watchdog,
            priority=priority,
            timeout=timeout,
            deadline=inf if timeout is None else _deadline(timeout, record, watchdog),
        )

    async def _answer(self, ask: Ask, exchange: Exchange, client: ClientWatch) -> None:
        answer = await self._attempts.answer(ask)
        try:
            await relay(answer, exchange)
        finally:
            # From here on there is nothing left that a leaving client would cancel.
            client.stop()
            await answer.close()


def _deadline(timeout: float, record: RequestRecord, watchdog: Watchdog) -> float:
    """When it ends, in the watchdog's time: it began with the request."""
    return record.started + timeout + watchdog.now() - time.monotonic()


def _note_gone(record: RequestRecord) -> None:
    record.client_gone = True
    record.status = record.status or CLIENT_CLOSED_REQUEST

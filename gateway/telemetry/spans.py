"""Spans made with the OpenTelemetry SDK. Imported only where a collector is configured."""

# ruff: noqa: ARG002 - what is not sampled has no use for its arguments
from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from backends.base import Header
from gateway.telemetry import names
from gateway.telemetry.record import RequestRecord
from gateway.telemetry.tracing import AttemptSpan, RequestSpan

logger = logging.getLogger(__name__)

_QUEUE = 2048
_BATCH = 512
_EXPORT_SECONDS = 5.0
_NOISY = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk._shared_internal",
)


class Spans:
    """The SDK's provider, its bounded queue and its exporter, put together once."""

    def __init__(self, endpoint: str, sample: float, version: str) -> None:
        # They log every failed batch; `_Exporter` says once that the collector is gone.
        for name in _NOISY:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._exporter = _Exporter(endpoint)
        self._queue = _Queue(self._exporter)
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample)),
            resource=Resource.create({SERVICE_NAME: names.SERVICE, SERVICE_VERSION: version}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(self._queue)
        self._tracer = self._provider.get_tracer(names.SCOPE, version)
        self._propagator = TraceContextTextMapPropagator()

    @property
    def dropped(self) -> int:
        """Spans that found the queue full, or that the collector did not take."""
        return self._queue.refused + self._exporter.failed

    def request(self, record: RequestRecord, headers: Sequence[Header]) -> RequestSpan:
        """Begin a request's span below the caller's, where it has one."""
        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in headers
            if name in {names.TRACEPARENT, names.TRACESTATE}
        }
        span = self._tracer.start_span(
            names.span_name(names.OPERATIONS[record.endpoint], record.route),
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            start_time=int(record.started_at * 1e9),
        )
        context = span.get_span_context()
        if not span.is_recording():
            return _UnsampledRequest(context)
        record.trace_id = f"{context.trace_id:032x}"
        return _Request(self, span, record)

    def start_attempt(self, parent: Span, name: str, attributes: dict[str, str | int]) -> Span:
        """Begin an attempt's span below its request's."""
        return self._tracer.start_span(
            name,
            context=set_span_in_context(parent),
            kind=SpanKind.CLIENT,
            attributes=attributes,
        )

    def shutdown(self) -> None:
        """Send what is queued. May take the exporter's timeout for every batch."""
        self._provider.shutdown()

    def abandon(self) -> None:
        """Give up on what is not yet sent: no further batch is tried."""
        self._exporter.shutdown()


class _Request:
    """A request that is recorded."""

    __slots__ = ("_open", "_operation", "_owner", "_span")

    def __init__(self, owner: Spans, span: Span, record: RequestRecord) -> None:
        self._owner = owner
        self._span = span
        self._operation = names.OPERATIONS[record.endpoint]
        self._open: set[_Attempt] = set()

    def attempt(
        self, *, number: int, provider: str, variant: str, replica: str, model: str
    ) -> AttemptSpan:
        attributes: dict[str, str | int] = {
            names.OPERATION: self._operation,
            names.PROVIDER: provider,
            names.REQUEST_MODEL: model,
            names.VARIANT: variant,
            names.REPLICA: replica,
            names.ATTEMPT: number,
            **_server(replica),
        }
        name = names.span_name(self._operation, model)
        attempt = _Attempt(self._owner.start_attempt(self._span, name, attributes), self._open)
        self._open.add(attempt)
        return attempt

    def end(self, record: RequestRecord) -> None:
        for attempt in tuple(self._open):
            attempt.end(names.CANCELLED)
        self._span.update_name(names.span_name(self._operation, record.route))
        self._span.set_attributes(_request_attributes(record))
        # A 4xx is the client's doing: it has an error.type, but the server did not fail.
        if record.error_type and not 400 <= record.status < 500:
            self._span.set_status(Status(StatusCode.ERROR, record.error_type))
        self._span.end(int((record.started_at + record.duration) * 1e9))


class _Attempt:
    """A try that is recorded."""

    __slots__ = ("_open", "_span")

    def __init__(self, span: Span, open_attempts: set[_Attempt]) -> None:
        self._span = span
        self._open = open_attempts

    def propagate(self, headers: Sequence[Header]) -> Sequence[Header]:
        return _with_parent(headers, self._span.get_span_context())

    def went_on(self, way: str) -> None:
        self._span.set_attribute(names.WAY, way)

    def end(self, cause: str, status: int | None = None) -> None:
        if self not in self._open:
            return
        self._open.discard(self)
        self._span.set_attribute(names.ATTEMPT_CAUSE, cause)
        if status is not None:
            self._span.set_attribute(names.HTTP_STATUS, status)
        if cause != names.OK:
            self._span.set_attribute(names.ERROR_TYPE, cause)
            self._span.set_status(Status(StatusCode.ERROR, cause))
        self._span.end(time.time_ns())


class _UnsampledRequest:
    """A request that is not recorded, which its engines are told."""

    __slots__ = ("_attempt",)

    def __init__(self, context: SpanContext) -> None:
        self._attempt = _UnsampledAttempt(context)

    def attempt(
        self, *, number: int, provider: str, variant: str, replica: str, model: str
    ) -> AttemptSpan:
        return self._attempt

    def end(self, record: RequestRecord) -> None:
        return


class _UnsampledAttempt:
    """A try of a request that is not recorded."""

    __slots__ = ("_context",)

    def __init__(self, context: SpanContext) -> None:
        self._context = context

    def propagate(self, headers: Sequence[Header]) -> Sequence[Header]:
        return _with_parent(headers, self._context)

    def went_on(self, way: str) -> None:
        return

    def end(self, cause: str, status: int | None = None) -> None:
        return


class _Queue(BatchSpanProcessor):
    """The SDK's batching queue, but what does not fit is refused silently and counted.

    The SDK's own bound drops the oldest span and logs about it on the thread of the request.
    """

    def __init__(self, exporter: _Exporter) -> None:
        super().__init__(exporter, max_queue_size=_QUEUE, max_export_batch_size=_BATCH)
        self.refused = 0
        self._accepted = 0
        self._sink = exporter

    def on_end(self, span: ReadableSpan) -> None:
        # One writer each: `_accepted` belongs to the loop, `done` to the exporting thread.
        if self._accepted - self._sink.done >= _QUEUE:
            self.refused += 1
            return
        self._accepted += 1
        super().on_end(span)


class _Exporter(SpanExporter):
    """OTLP over HTTP that counts what it could not deliver, and says so once."""

    def __init__(self, endpoint: str) -> None:
        self.done = 0
        """Spans that left the queue, delivered or not."""
        self.failed = 0
        self._endpoint = endpoint
        self._broken = False
        self._closed = False
        self._otlp = OTLPSpanExporter(
            endpoint=endpoint.rstrip("/") + "/v1/traces", timeout=_EXPORT_SECONDS
        )

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._otlp.export(spans)
        finally:
            self.done += len(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed:
            self.failed += len(spans)
        if failed != self._broken and not self._closed:
            self._broken = failed
            state = "does not take spans, they are dropped" if failed else "takes spans again"
            logger.warning("the OTLP collector at %s %s", _without_user(self._endpoint), state)
        return result

    def shutdown(self) -> None:
        if not self._closed:
            self._closed = True
            self._otlp.shutdown()  # type: ignore[no-untyped-call]


def _request_attributes(record: RequestRecord) -> dict[str, str | int | float | bool]:
    known: dict[str, str | int | float | bool | None] = {
        names.HTTP_METHOD: "POST",
        names.HTTP_ROUTE: f"/v1/{record.endpoint.value}",
        names.HTTP_STATUS: record.status,
        names.OPERATION: names.OPERATIONS[record.endpoint],
        names.REQUEST_MODEL: record.route or record.model_shown or None,
        names.REQUEST_STREAM: record.stream,
        names.REQUEST_ID: record.request_id,
        names.ROUTE: record.route,
        names.VARIANT: record.variant,
        names.REPLICA: record.replica,
        names.PRINCIPAL: record.principal,
        names.ATTEMPTS: record.attempts,
        names.PASSED_OVER: ", ".join(record.passed_over) or None,
        names.FAILOVERS: record.failovers or None,
        names.INPUT_TOKENS: record.input_tokens,
        names.CACHED_TOKENS: record.cached_tokens,
        names.OUTPUT_TOKENS: record.output_tokens,
        names.TIME_TO_FIRST_CHUNK: record.time_to_first_token,
        names.ERROR_TYPE: record.error_type or None,
    }
    return {name: value for name, value in known.items() if value is not None}


def _server(replica: str) -> dict[str, str | int]:
    """Where a replica listens; nothing for sockets and in-process engines."""
    try:
        parts = urlsplit(replica)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return {}
    if not parts.hostname or port is None:
        return {}
    return {names.SERVER_ADDRESS: parts.hostname, names.SERVER_PORT: port}


def _with_parent(headers: Sequence[Header], context: SpanContext) -> Sequence[Header]:
    """`headers` with one `traceparent`, naming `context` (https://www.w3.org/TR/trace-context/)."""
    value = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    kept = [header for header in headers if header[0] != names.TRACEPARENT]
    return [*kept, (names.TRACEPARENT, value.encode())]


def _without_user(url: str) -> str:
    """`url` without what may be a password."""
    scheme, _, rest = url.rpartition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"

"""Against a real collector: an HTTP server on loopback that decodes OTLP."""

import logging
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from backends.base import Endpoint, Header
from gateway.telemetry.record import RequestRecord
from gateway.telemetry.spans import Spans
from gateway.telemetry.tracing import RequestSpan, Tracing

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"


class Collector(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[ExportTraceServiceRequest] = []
        self.paths: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def spans(self) -> dict[str, Span]:
        return {
            f"{span.name}#{_attributes(span).get('gateway.attempt', '')}": span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.paths.append(self.path)
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


def _attributes(span: Span) -> dict[str, object]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value")
        for each in span.attributes
    }


def record(**known: object) -> RequestRecord:
    fields: dict[str, object] = {
        "request_id": "r-1",
        "endpoint": Endpoint.CHAT,
        "started": 100.0,
        "started_at": 1_700_000_000.0,
        "model": "gpt-4o-mini",
        "status": 200,
        "ended_at": 101.5,
    }
    return RequestRecord(**(fields | known))  # type: ignore[arg-type]


def traceparent(*, sampled: bool) -> list[Header]:
    return [
        (b"accept", b"*/*"),
        (b"traceparent", f"00-{TRACE}-{CALLER}-0{int(sampled)}".encode()),
    ]


def wait_until_dropped(spans: Spans, count: int) -> None:
    deadline = time.monotonic() + 30
    while spans.dropped < count:
        assert time.monotonic() < deadline, f"only {spans.dropped} spans were given up"
        time.sleep(0.01)
    assert spans.dropped == count


def begin(span: RequestSpan, number: int = 1, replica: str = "http://10.0.0.1:8000"):
    return span.attempt(
        number=number, provider="vllm", variant="canary", replica=replica, model="Qwen3-8B"
    )


def test_a_request_is_the_callers_child_and_its_attempts_are_its_own(collector: Collector) -> None:
    tracing = Tracing(collector.endpoint + "/", version="0.1.0")
    it = record()
    span = tracing.request(it, traceparent(sampled=True))
    it.route, it.variant, it.replica = "assistant", "canary", "http://10.0.0.2:8000"
    it.attempts, it.principal, it.input_tokens, it.output_tokens = 2, "alice", 3, 9
    it.cached_tokens = 2
    it.stream, it.first_token_at = True, 100.5
    first = begin(span)
    seen_by_first = first.propagate([(b"accept", b"*/*"), *traceparent(sampled=True)])
    first.end("reset", 502)
    second = begin(span, 2, "https://[::1]/v1")
    second.went_on("replay")
    second.end("ok", 200)
    second.end("reset")
    span.end(it)
    tracing.stop(10)

    assert collector.paths == ["/v1/traces"]
    assert tracing.dropped == 0
    request, failed, good = (
        collector.spans[name] for name in ("chat assistant#", "chat Qwen3-8B#1", "chat Qwen3-8B#2")
    )
    assert it.trace_id == TRACE
    assert {each.trace_id.hex() for each in (request, failed, good)} == {TRACE}
    assert request.parent_span_id.hex() == CALLER
    assert failed.parent_span_id == good.parent_span_id == request.span_id
    assert (request.kind, failed.kind) == (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)
    parents = [value for name, value in seen_by_first if name == b"traceparent"]
    assert parents == [f"00-{TRACE}-{failed.span_id.hex()}-01".encode()]
    assert request.start_time_unix_nano == 1_700_000_000 * 10**9
    assert request.end_time_unix_nano - request.start_time_unix_nano == 1_500_000_000
    assert request.status.code == Status.STATUS_CODE_UNSET
    assert failed.status.code == Status.STATUS_CODE_ERROR
    assert good.status.code == Status.STATUS_CODE_UNSET
    assert _attributes(request) == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "assistant",
        "gen_ai.request.stream": True,
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "gen_ai.usage.output_tokens": 9,
        "gen_ai.response.time_to_first_chunk": 0.5,
        "gateway.request.id": "r-1",
        "gateway.route": "assistant",
        "gateway.variant": "canary",
        "gateway.replica": "http://10.0.0.2:8000",
        "gateway.principal": "alice",
        "gateway.attempts": 2,
    }
    assert _attributes(failed) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "Qwen3-8B",
        "server.address": "10.0.0.1",
        "server.port": 8000,
        "gateway.variant": "canary",
        "gateway.replica": "http://10.0.0.1:8000",
        "gateway.attempt": 1,
        "gateway.attempt.cause": "reset",
        "http.response.status_code": 502,
        "error.type": "reset",
    }
    assert (_attributes(good)["gateway.way"], "gateway.way" in _attributes(failed)) == (
        "replay",
        False,
    )
    assert (_attributes(good)["server.address"], _attributes(good)["server.port"]) == ("::1", 443)


def test_the_service_says_who_it_is(collector: Collector) -> None:
    tracing = Tracing(collector.endpoint, version="0.1.0")
    it = record()
    tracing.request(it, []).end(it)
    tracing.stop(10)
    (resource,) = collector.requests[0].resource_spans
    about = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert about["service.name"] == "gateway"
    assert about["service.version"] == "0.1.0"


def test_attempts_left_open_end_as_cancelled(collector: Collector) -> None:
    tracing = Tracing(collector.endpoint)
    it = record(status=499, client_gone=True)
    span = tracing.request(it, [])
    begin(span, replica="tale")
    span.end(it)
    tracing.stop(10)
    attempt = _attributes(collector.spans["chat Qwen3-8B#1"])
    assert attempt["gateway.attempt.cause"] == "cancelled"
    assert "server.address" not in attempt
    request = collector.spans["chat#"]
    assert _attributes(request)["error.type"] == "client_gone"
    assert request.status.code == Status.STATUS_CODE_UNSET


@pytest.mark.parametrize(
    ("known", "code"),
    [
        ({"status": 404, "cause": "model_not_found"}, Status.STATUS_CODE_UNSET),
        ({"status": 502, "cause": "reset"}, Status.STATUS_CODE_ERROR),
        ({"status": 200, "cause": "reset"}, Status.STATUS_CODE_ERROR),
    ],
)
def test_the_status_is_an_error_where_the_server_failed(
    collector: Collector, known: dict[str, object], code: "Status.StatusCode.ValueType"
) -> None:
    tracing = Tracing(collector.endpoint)
    it = record(**known)
    tracing.request(it, []).end(it)
    tracing.stop(10)
    (span,) = collector.spans.values()
    assert span.status.code == code
    assert _attributes(span)["error.type"] == known["cause"]
    assert _attributes(span)["gen_ai.request.model"] == "gpt-4o-mini"


def test_a_caller_who_does_not_trace_is_followed(collector: Collector) -> None:
    tracing = Tracing(collector.endpoint, sample=1.0)
    it = record()
    span = tracing.request(it, traceparent(sampled=False))
    attempt = begin(span)
    seen = dict(attempt.propagate(traceparent(sampled=False)))
    attempt.end("ok", 200)
    span.end(it)
    tracing.stop(10)
    assert seen[b"traceparent"].startswith(f"00-{TRACE}-".encode())
    assert seen[b"traceparent"].endswith(b"-00")
    assert it.trace_id is None
    assert collector.requests == []


def test_the_share_decides_only_where_no_caller_did(collector: Collector) -> None:
    tracing = Tracing(collector.endpoint, sample=0.0)
    ours, theirs = record(), record()
    tracing.request(ours, []).end(ours)
    tracing.request(theirs, traceparent(sampled=True)).end(theirs)
    tracing.stop(10)
    (span,) = collector.spans.values()
    assert span.trace_id.hex() == TRACE


@pytest.mark.parametrize(
    "value", [b"", b"rubbish", b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01", b"\xff" * 60]
)
def test_a_broken_traceparent_begins_a_trace_of_its_own(collector: Collector, value: bytes) -> None:
    tracing = Tracing(collector.endpoint)
    it = record()
    tracing.request(it, [(b"traceparent", value)]).end(it)
    tracing.stop(10)
    (span,) = collector.spans.values()
    assert span.parent_span_id == b""
    assert span.trace_id.hex() == it.trace_id


def test_a_collector_that_is_down_costs_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    tracing = Tracing(f"http://user:secret@127.0.0.1:{port}")
    with caplog.at_level(logging.DEBUG):
        for _ in range(1_000):
            it = record()
            span = tracing.request(it, [])
            begin(span).end("ok", 200)
            span.end(it)
        spans = tracing._spans
        assert spans is not None
        tracing.stop(0.1)
        wait_until_dropped(spans, 2_000)
    warnings = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(warnings) <= 1
    assert "secret" not in caplog.text


@pytest.mark.slow
def test_a_collector_that_never_answers_holds_up_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as hole:
        tracing = Tracing(f"http://127.0.0.1:{hole.getsockname()[1]}")
        for _ in range(6_000):
            it = record()
            tracing.request(it, []).end(it)
        assert tracing.dropped >= 6_000 - 2_048, "what waits is bounded"
        spans = tracing._spans
        assert spans is not None
        began = time.monotonic()
        tracing.stop(0.1)
        assert time.monotonic() - began < 4, "stopping waits for its own limit only"
        tracing.stop(0.1)
    wait_until_dropped(spans, 6_000)
    assert caplog.records == []

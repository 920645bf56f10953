import subprocess
import sys

from backends.base import Endpoint
from gateway.telemetry.record import RequestRecord
from gateway.telemetry.tracing import Tracing

SDK_STAYS_OUT = """
import sys
from gateway.telemetry.tracing import Tracing
Tracing(None)
print([name for name in sys.modules if name.startswith(("opentelemetry", "requests"))])
"""


def record() -> RequestRecord:
    return RequestRecord(
        request_id="r-1", endpoint=Endpoint.CHAT, started=100.0, started_at=1_700_000_000.0
    )


def test_without_an_endpoint_nothing_is_traced_and_headers_stay_as_they_are() -> None:
    tracing = Tracing(None)
    it = record()
    headers = [(b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01")]
    span = tracing.request(it, headers)
    attempt = span.attempt(number=1, provider="vllm", variant="v", replica="r", model="m")
    assert attempt.propagate(headers) is headers
    attempt.end("ok", 200)
    span.end(it)
    assert it.trace_id is None
    assert tracing.dropped == 0
    tracing.stop()


def test_without_an_endpoint_the_sdk_is_not_even_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SDK_STAYS_OUT], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"

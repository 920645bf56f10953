"""A span per request and one per attempt, sent over OTLP/HTTP where an endpoint is configured.

Rules of this file:

- Without an endpoint nothing of the SDK is imported, and every call is one empty method.
- Whether a request is sampled is decided once, at its start: by the caller's `traceparent`, or
  by the configured share. An unsampled request makes no spans, yet its engines are told so.
- A collector that is slow or gone costs spans and one line of log; never memory, never a request
  and never the time of a shutdown.
"""

# ruff: noqa: ARG002 - what is not traced has no use for its arguments
from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from backends.base import Header
from gateway.telemetry.record import RequestRecord

if TYPE_CHECKING:
    from gateway.telemetry.spans import Spans


class AttemptSpan(Protocol):
    """One try, as it is traced."""

    def propagate(self, headers: Sequence[Header]) -> Sequence[Header]:
        """`headers` with the `traceparent` that the engine shall see."""
        ...

    def went_on(self, way: str) -> None:
        """It has gone on with another try's answer, that way."""
        ...

    def end(self, cause: str, status: int | None = None) -> None:
        """The try is over: `cause` is why it failed, or `names.OK`; `status` what it answered."""
        ...


class RequestSpan(Protocol):
    """One request, as it is traced."""

    def attempt(
        self, *, number: int, provider: str, variant: str, replica: str, model: str
    ) -> AttemptSpan:
        """Begin the span of try `number` (from 1). `model` is the engine's name for it."""
        ...

    def end(self, record: RequestRecord) -> None:
        """The request is over. Attempts still open end with it, as cancelled."""
        ...


class _NoAttempt:
    """A try that nobody traces."""

    __slots__ = ()

    def propagate(self, headers: Sequence[Header]) -> Sequence[Header]:
        return headers

    def went_on(self, way: str) -> None:
        return

    def end(self, cause: str, status: int | None = None) -> None:
        return


class _NoRequest:
    """A request that nobody traces."""

    __slots__ = ()

    def attempt(
        self, *, number: int, provider: str, variant: str, replica: str, model: str
    ) -> AttemptSpan:
        return _NO_ATTEMPT

    def end(self, record: RequestRecord) -> None:
        return


_NO_ATTEMPT = _NoAttempt()
_NO_REQUEST = _NoRequest()


class Tracing:
    """The owner of the exporter. Built by `app.py`, asked once per request."""

    def __init__(self, endpoint: str | None, *, sample: float = 1.0, version: str = "") -> None:
        """`endpoint`: base URL of an OTLP/HTTP collector; `sample`: share of requests traced."""
        self._spans: Spans | None = None
        if endpoint is not None:
            # The SDK and its exporter cost some 20 MB: only for those who use them.
            from gateway.telemetry.spans import Spans  # noqa: PLC0415

            self._spans = Spans(endpoint, sample, version)

    @property
    def dropped(self) -> int:
        """Spans given up because the collector did not take them."""
        return self._spans.dropped if self._spans is not None else 0

    def request(self, record: RequestRecord, headers: Sequence[Header]) -> RequestSpan:
        """Begin the span of a request with these `headers`; fills in `record.trace_id`."""
        if self._spans is None:
            return _NO_REQUEST
        return self._spans.request(record, headers)

    def stop(self, timeout: float = 2.0) -> None:
        """Send what is left, waiting for at most `timeout` seconds; blocks. Idempotent."""
        if self._spans is None:
            return
        # A daemon of our own: the executor's threads are joined when the interpreter exits, and
        # a collector that accepts and never answers would hold it up.
        sender = threading.Thread(target=self._spans.shutdown, name="trace-flush", daemon=True)
        sender.start()
        sender.join(timeout)
        self._spans.abandon()
        self._spans = None

"""One client's request and our response to it: what has been sent, and what still may be."""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import ceil

from litestar.types import Send

from backends.base import Header
from gateway.errors import (
    Dialect,
    GatewayError,
    render_body,
    render_event,
    render_response_events,
)
from gateway.telemetry.record import RequestRecord
from gateway.wire.response_progress import ResponseProgress

_JSON = (b"content-type", b"application/json")
_CLOSE = (b"connection", b"close")

_UNREAD_BODY = (408, 413, 415, 431)
"""Statuses after which the rest of a request's body is not worth reading."""


class Exchange:
    """The sending half of one request; counts into `record` what goes out."""

    __slots__ = ("_dialect", "_progress", "_send", "_started", "in_stream", "record")

    def __init__(self, send: Send, record: RequestRecord, dialect: Dialect) -> None:
        self._send = send
        self._dialect = dialect
        self._progress = ResponseProgress() if dialect is Dialect.RESPONSES else None
        self._started = False
        self.in_stream = False
        """Whether the body is a stream of events, to which an error can be added."""
        self.record = record

    async def start(self, status: int, headers: Sequence[Header]) -> None:
        """Send the head: `headers` and what the gateway adds to every response."""
        record = self.record
        record.status = status
        self._started = True
        elapsed = int((time.monotonic() - record.started) * 1e3)
        added = [
            (b"x-request-id", record.request_id.encode("latin-1")),
            (b"openai-processing-ms", b"%d" % elapsed),
            (b"x-gateway-attempts", b"%d" % record.attempts),
        ]
        if record.route is not None:
            added.append((b"x-gateway-model", record.route.encode()))
        if record.variant is not None:
            added.append((b"x-gateway-variant", record.variant.encode()))
        if record.replica is not None:
            added.append((b"x-gateway-replica", record.replica.encode()))
        await self._send(
            {"type": "http.response.start", "status": status, "headers": [*headers, *added]}
        )

    async def write(self, piece: bytes) -> None:
        """Send a piece of the body; waits while the client does not read."""
        self.record.bytes_out += len(piece)
        if self._progress is not None:
            self._progress.note(piece)
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def finish(self, last: bytes = b"") -> None:
        """Send the last piece."""
        self.record.bytes_out += len(last)
        await self._send({"type": "http.response.body", "body": last, "more_body": False})

    async def fail(self, error: GatewayError, *, cause: str | None = None) -> None:
        """Tell the client what went wrong: as a response, or as the last event of its stream.

        A JSON answer that has begun can only be broken off: nothing is sent, and the server
        closes a connection whose response was not finished.
        """
        self.record.cause = cause or self.record.cause or error.code or error.type
        if not self._started:
            await self._send_error(error)
        elif self.in_stream:
            await self.finish(self._broken(error))

    def _broken(self, error: GatewayError) -> bytes:
        """How the stream ends."""
        told = self._progress
        if told is None:
            return render_event(error, self._dialect)
        return render_response_events(error, told.number, told.response)

    async def _send_error(self, error: GatewayError) -> None:
        body = render_body(error, self._dialect)
        headers = [_JSON, (b"content-length", b"%d" % len(body))]
        if error.retry_after is not None:
            headers.append((b"retry-after", b"%d" % max(1, ceil(error.retry_after))))
        if error.status in _UNREAD_BODY or error.code == "shutting_down":
            headers.append(_CLOSE)
        await self.start(error.status, headers)
        await self.finish(body)

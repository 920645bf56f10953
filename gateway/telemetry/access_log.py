"""One JSON line per finished request, written by a thread of its own so that nobody waits.

A line is encoded where the request ends (about a microsecond and a half) and put into a bounded
buffer; the writer takes all of it at once. When the far end of the descriptor is slow or gone,
lines are given up and counted: a log that nobody reads must not stop the answers.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections import deque
from datetime import UTC, datetime

import msgspec

from gateway.telemetry.record import RequestRecord

logger = logging.getLogger(__name__)


class AccessLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a line says; what is not known is left out."""

    time: datetime
    """When the request began."""
    request_id: str
    endpoint: str
    model: str = ""
    """As the client wrote it, cut after 128 characters."""
    route: str | None = None
    variant: str | None = None
    replica: str | None = None
    key: str | None = None
    """The name of the key, never its value."""
    status: int
    cause: str | None = None
    client_gone: bool = False
    stream: bool = False
    attempts: int = 0
    passed_over: tuple[str, ...] = ()
    failovers: int = 0
    duration_ms: float
    first_token_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    bytes_out: int = 0
    trace_id: str | None = None


def line(record: RequestRecord) -> AccessLine:
    """The access line of a finished request."""
    first_token = record.time_to_first_token
    return AccessLine(
        time=datetime.fromtimestamp(record.started_at, UTC),
        request_id=record.request_id,
        endpoint=record.endpoint.value,
        model=record.model_shown,
        route=record.route,
        variant=record.variant,
        replica=record.replica,
        key=record.principal,
        status=record.status,
        cause=record.cause,
        client_gone=record.client_gone,
        stream=record.stream,
        attempts=record.attempts,
        passed_over=record.passed_over,
        failovers=record.failovers,
        duration_ms=round(record.duration * 1e3, 3),
        first_token_ms=None if first_token is None else round(first_token * 1e3, 3),
        input_tokens=record.input_tokens,
        output_tokens=record.output_tokens,
        cached_tokens=record.cached_tokens,
        bytes_out=record.bytes_out,
        trace_id=record.trace_id,
    )


class AccessLog:
    """The owner of the buffer and of the thread that writes it to a file descriptor.

    `write` belongs to one event loop. The descriptor stays the caller's to close.
    """

    def __init__(self, descriptor: int, *, interval: float = 0.1, capacity: int = 4 << 20) -> None:
        """`interval`: seconds in which lines are gathered. `capacity`: bytes kept at most."""
        self._descriptor = descriptor
        self._interval = interval
        self._capacity = capacity
        self._encoder = msgspec.json.Encoder()
        self._lines: deque[bytes] = deque()
        # Each counter has one writer, the loop or the thread: += on a shared one loses updates.
        self._appended = 0
        self._taken = 0
        self._refused = 0
        self._lost = 0
        self._broken = False
        self._awake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to write."""
        # A daemon: a descriptor that blocks for ever must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines given up because the buffer was full or the descriptor broken."""
        return self._refused + self._lost

    def write(self, record: RequestRecord) -> None:
        """Take the line of a finished request. Never waits."""
        encoded = self._encoder.encode(line(record)) + b"\n"
        if self._appended - self._taken + len(encoded) > self._capacity:
            self._refused += 1
            return
        self._appended += len(encoded)
        self._lines.append(encoded)
        if not self._awake.is_set():
            self._awake.set()

    def stop(self, timeout: float = 1.0) -> None:
        """Write what is left, for at most `timeout` seconds. Idempotent."""
        self._closing.set()
        self._awake.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._awake.wait()
            self._closing.wait(self._interval)
            self._awake.clear()
            self._flush()
        self._flush()

    def _flush(self) -> None:
        batch = [self._lines.popleft() for _ in range(len(self._lines))]
        if not batch:
            return
        data = b"".join(batch)
        try:
            self._write_all(memoryview(data))
        except OSError as error:
            self._lost += len(batch)
            self._tell(error)
        else:
            self._tell(None)
        finally:
            self._taken += len(data)

    def _write_all(self, data: memoryview) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # somebody else made it non-blocking
                if self._closing.is_set():
                    raise
                select.select([], [self._descriptor], [], self._interval)

    def _tell(self, error: OSError | None) -> None:
        """Log that the descriptor broke or works again; once, not per line."""
        if self._broken == (error is not None):
            return
        self._broken = error is not None
        if error is not None:
            logger.warning("cannot write the access log, its lines are dropped: %s", error)
        else:
            logger.warning("the access log can be written again; %d lines are lost", self._lost)

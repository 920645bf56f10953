"""One request as it is told: the API layer fills a `RequestRecord` in as the request goes.

The same record feeds the metrics, the access line and the span, so the three cannot disagree.
It never holds prompts, answers or secrets.
"""

from __future__ import annotations

import msgspec

from backends.base import Endpoint
from gateway.telemetry import names

_MODEL_SHOWN = 128


class RequestRecord(msgspec.Struct, kw_only=True, gc=False):
    """What is known of one request. Owned by the handler until `request_finished`."""

    request_id: str
    """As answered in `x-request-id`; whoever takes it from a client bounds its length."""
    endpoint: Endpoint
    started: float
    """Monotonic seconds, as `time.monotonic()` gives them."""
    started_at: float
    """Seconds since the epoch, as `time.time()` gives them."""
    model: str = ""
    """What the client asked for, as it wrote it: never a label."""
    route: str | None = None
    """The configured model that it resolved to: a name or glob in routing.yaml."""
    variant: str | None = None
    """Like `replica`: of the attempt that answered, else of the last one."""
    replica: str | None = None
    principal: str | None = None
    """The name of the key, never its value."""
    stream: bool = False
    attempts: int = 0
    passed_over: tuple[str, ...] = ()
    """`MODEL` or `MODEL/VARIANT`: who should have answered by the configuration, and was not asked
    at first, because nobody there might take traffic."""
    failovers: int = 0
    """How often another replica has gone on with the answer."""
    status: int = 0
    """What the client was answered; 499 where it left before an answer began."""
    cause: str | None = None
    """Why it failed, as `error.type`: a `Cause`, an error's code, or a name of our own."""
    client_gone: bool = False
    first_token_at: float | None = None
    """Monotonic seconds of the first content of a stream."""
    ended_at: float | None = None
    """Monotonic seconds of the last byte handed on."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    """As the engine counted them; None where it did not say."""
    cached_tokens: int | None = None
    """Those of the input that it had in its prompt cache, by its own word."""
    bytes_out: int = 0
    """Bytes of the body handed to the client."""
    trace_id: str | None = None
    """Where the request is traced: 32 hex digits, set by `Tracing.request`."""

    @property
    def model_shown(self) -> str:
        """What the client asked for, cut: it may be as long as a body."""
        return self.model[:_MODEL_SHOWN]

    @property
    def error_type(self) -> str:
        """`error.type`; empty for a request that went well."""
        if self.cause is not None:
            return self.cause
        return names.CLIENT_GONE if self.client_gone else ""

    @property
    def duration(self) -> float:
        """Seconds from the first byte read to the last byte handed on."""
        return (self.ended_at if self.ended_at is not None else self.started) - self.started

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds to the first content of a stream; None where there was none."""
        return None if self.first_token_at is None else self.first_token_at - self.started

    @property
    def time_per_output_token(self) -> float | None:
        """Seconds per token after the first; None unless a whole stream was counted."""
        if self.first_token_at is None or self.ended_at is None:
            return None
        if self.output_tokens is None or self.output_tokens < 2 or self.error_type:
            return None
        return (self.ended_at - self.first_token_at) / (self.output_tokens - 1)

"""The error tree, and the only renderer of error bodies.

Everything that goes wrong in the gateway reaches the client as one of these, in the shape of
the dialect it spoke: OpenAI's, or Anthropic's on `/v1/messages`. The OpenAI SDK chooses its
exception by status, and `type`, `code` and `param` tell a program what to do next.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

import msgspec


class Dialect(StrEnum):
    """Whose error shape a client expects."""

    OPENAI = "openai"
    RESPONSES = "responses"
    """OpenAI's, with the responses endpoint's own error event."""
    ANTHROPIC = "anthropic"


class GatewayError(Exception):
    """Something to tell the client. `message` says what was wrong and what would be right."""

    status = 500
    type = "server_error"
    code: str | None = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code
        self.retry_after = retry_after
        """Seconds until another try makes sense; None where it does not."""

    def fields(self) -> dict[str, Any]:
        """The error object, as OpenAI's clients know it."""
        return {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }


class InternalError(GatewayError):
    """A bug of the gateway. The client learns where to look it up, and nothing else."""

    code = "internal_error"

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"the gateway failed on this request; its log says why, under {request_id!r}"
        )


class BadRequest(GatewayError):
    status = 400
    type = "invalid_request_error"


class Unsupported(BadRequest):
    """The model's engine cannot do what a field asks for."""

    code = "unsupported"


class Unauthenticated(GatewayError):
    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class Forbidden(GatewayError):
    status = 403
    type = "permission_error"
    code = "permission_denied"


class NotFound(GatewayError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(GatewayError):
    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class RequestTimeout(GatewayError):
    status = 408
    type = "invalid_request_error"
    code = "request_timeout"


class Conflict(GatewayError):
    """It cannot be done as things are."""

    status = 409
    type = "invalid_request_error"
    code = "conflict"


class RequestTooLarge(GatewayError):
    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class UnsupportedMediaType(GatewayError):
    status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"


class RateLimited(GatewayError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class HeadersTooLarge(GatewayError):
    status = 431
    type = "invalid_request_error"
    code = "headers_too_large"


class NotSupported(GatewayError):
    """The model's engine does not have this endpoint."""

    status = 501
    type = "invalid_request_error"
    code = "endpoint_not_supported"


_FOLDERS = re.compile(r"(?<![\w/.])/(?!v1/)(?:[^\s/:;,|'\"`()<>]+/)+")
"""The folders of a path; not the path of a URL, nor that of an endpoint."""


def without_folders(reason: str) -> str:
    """`reason` for a client, whom it does not concern where files are: `…/model`.

    The operator's log and `/ready` have it whole.
    """
    return _FOLDERS.sub("…/", reason)


class _OfEngine(GatewayError):
    """Its message has an engine's own words, or those of whoever owns it."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(without_folders(message), param=param, code=code, retry_after=retry_after)


class UpstreamFailed(_OfEngine):
    """An engine failed, and no other could answer."""

    status = 502
    type = "upstream_error"
    code = "upstream_failed"


class Unavailable(_OfEngine):
    """Nobody can take the request now."""

    status = 503
    type = "service_unavailable"
    code = "unavailable"


class UpstreamTimeout(GatewayError):
    """An engine was too slow, and no other could answer."""

    status = 504
    type = "timeout_error"
    code = "upstream_timeout"


_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    501: "invalid_request_error",
}


class EngineAnswered(GatewayError):
    """An engine said no, in its own words: its status and message are the client's to see."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, param=param, code=code, retry_after=retry_after)
        self.status = status
        self.type = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")


class ContentRefused(GatewayError):
    """An engine will not talk of that: its error object is the client's to see, all that is in it.

    Azure's says which filter found what; others have fields of their own.
    """

    def __init__(
        self,
        status: int,
        message: str,
        told: dict[str, Any],
        *,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        """`told`: the object. The others are what could be read of it."""
        super().__init__(message, param=param, code=code)
        self.status = status
        self.type = "invalid_request_error"
        self._told = told

    def fields(self) -> dict[str, Any]:
        """The object as it came."""
        return {**self._told, "message": self.message}


_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def render_body(error: GatewayError, dialect: Dialect) -> bytes:
    """The JSON body of `error`, also what goes into a stream's error event."""
    return msgspec.json.encode(_shape(error, dialect))


def render_event(error: GatewayError, dialect: Dialect) -> bytes:
    """The last event of a stream that broke: an error, never a `[DONE]`."""
    body = render_body(error, dialect)
    if dialect is Dialect.ANTHROPIC:
        return b"event: error\ndata: " + body + b"\n\n"
    return b"data: " + body + b"\n\n"


def render_response_events(
    error: GatewayError, number: int | None, response: dict[str, Any] | None
) -> bytes:
    """How a stream of the responses endpoint ends that broke: `error`, then `response.failed`.

    `number` is that of the event before, where there are any; `response` is the one that has begun,
    where that is known.

    An `error` event has its fields twice. OpenAI's documents have them side by side; its servers
    put them into an object, and its SDKs raise only for that.
    """
    fields = {
        "code": error.code or error.type,
        "message": error.message,
        "param": error.param,
    }
    told: list[dict[str, Any]] = [{"type": "error", **fields, "error": error.fields()}]
    if response is not None:
        code = "rate_limit_exceeded" if error.status == 429 else "server_error"
        failed = {"status": "failed", "error": {"code": code, "message": error.message}}
        told.append({"type": "response.failed", "response": {**response, **failed}})
    if number is not None:
        for following, event in enumerate(told, number + 1):
            event["sequence_number"] = following
    return b"".join(
        b"event: %s\ndata: %s\n\n" % (event["type"].encode(), msgspec.json.encode(event))
        for event in told
    )


def _shape(error: GatewayError, dialect: Dialect) -> dict[str, object]:
    if dialect is Dialect.ANTHROPIC:
        kind = _ANTHROPIC_TYPES.get(
            error.status, "api_error" if error.status >= 500 else "invalid_request_error"
        )
        more = error.fields() if isinstance(error, ContentRefused) else {}
        return {"type": "error", "error": {**more, "type": kind, "message": error.message}}
    return {"error": error.fields()}

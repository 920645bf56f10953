"""Errors outside the inference handler, a path that does not exist among them, in our shape."""

from __future__ import annotations

import logging
from math import ceil
from typing import Any

from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap

from gateway.api.headers import of, request_id
from gateway.errors import (
    BadRequest,
    Dialect,
    GatewayError,
    InternalError,
    MethodNotAllowed,
    NotFound,
    render_body,
)

logger = logging.getLogger(__name__)


def _respond(request: Request[Any, Any, Any], error: GatewayError) -> Response[bytes]:
    anthropic = request.scope["path"].startswith("/v1/messages")
    headers = {"x-request-id": request_id(of(request.scope))}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, ceil(error.retry_after)))
    return Response(
        render_body(error, Dialect.ANTHROPIC if anthropic else Dialect.OPENAI),
        status_code=error.status,
        media_type=MediaType.JSON,
        headers=headers,
    )


def _on_gateway_error(request: Request[Any, Any, Any], error: GatewayError) -> Response[bytes]:
    return _respond(request, error)


def _on_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    return _respond(request, _translate(request.scope["method"], request.scope["path"], error))


def _on_bug(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    named = request_id(of(request.scope))
    logger.error("request %s hit a bug of the gateway", named, exc_info=error)
    return _respond(request, InternalError(named))


def _translate(method: str, path: str, error: HTTPException) -> GatewayError:
    if error.status_code == 404:
        hint = "" if path.startswith("/v1") else "; the API lives below /v1"
        return NotFound(f"{method} {path} does not exist{hint}: GET /docs shows what does")
    if error.status_code == 405:
        return MethodNotAllowed(f"{path} does not take {method}: GET /docs shows what it takes")
    if error.status_code < 500:
        return BadRequest(str(error.detail))
    return GatewayError(str(error.detail))


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    GatewayError: _on_gateway_error,
    HTTPException: _on_http_error,
    Exception: _on_bug,
}

"""Read a request's body once: bounded in size, bounded in waiting, and only if it can be JSON."""

from __future__ import annotations

from typing import cast

from litestar.types import HTTPReceiveMessage, Receive

from gateway.config.structs import Limits
from gateway.dispatch.watchdog import WaitTooLongError, Watchdog
from gateway.errors import RequestTimeout, RequestTooLarge, UnsupportedMediaType
from gateway.wire.fields import Fields

MIN_RATE = 16 << 10
"""Bytes a second, for which a body may take longer than `body_timeout` as a whole. The rule is
that of Apache's mod_reqtimeout: time is given for what has come, so drops do not buy any."""


class ClientGoneError(Exception):
    """The client left before its request was complete."""


async def read_body(receive: Receive, headers: Fields, limits: Limits, watchdog: Watchdog) -> bytes:
    """The whole body. Raises `GatewayError`, or `ClientGoneError`."""
    _check_headers(headers, limits.body)
    pieces: list[bytes] = []
    size = 0
    silent = limits.body_timeout
    too_slow = watchdog.now() + silent
    while True:
        deadline = min(watchdog.now() + silent, too_slow + size / MIN_RATE)
        try:
            message = cast(HTTPReceiveMessage, await watchdog.wait(receive(), deadline))
        except WaitTooLongError:
            raise RequestTimeout(
                f"the request body stopped coming, or came too slowly: it may be silent for "
                f"{silent:g} s, and take as long as a whole, and a second more for each "
                f"{MIN_RATE} bytes; {size} have come"
            ) from None
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body = message["body"]
        size += len(body)
        if size > limits.body:
            raise _too_large(limits.body)
        if not pieces and not message["more_body"]:
            return body
        pieces.append(body)
        if not message["more_body"]:
            return b"".join(pieces)


def _check_headers(headers: Fields, limit: int) -> None:
    length = headers.first(b"content-length")
    if length is not None and length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    media_type = headers.first(b"content-type")
    if media_type is not None:
        # A page in a browser may send other types to any host without being asked for leave.
        kind = media_type.split(b";", 1)[0].strip().lower()
        if kind != b"application/json" and not kind.endswith(b"+json"):
            raise UnsupportedMediaType(
                f"the content type is {kind.decode('latin-1')!r}: "
                "send JSON, with `Content-Type: application/json`"
            )
    encoding = headers.first(b"content-encoding")
    if encoding is not None and encoding.strip().lower() != b"identity":
        raise UnsupportedMediaType(
            f"the body is compressed ({encoding.decode('latin-1')!r}): send it as it is"
        )


def _too_large(limit: int) -> RequestTooLarge:
    return RequestTooLarge(
        f"the request body is larger than {limit} bytes, the limit of `server.limits.body`"
    )

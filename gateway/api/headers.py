"""Which headers pass: from the client to the engine, and back. Pure."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Sequence
from typing import cast

from litestar.types import Scope

from backends.base import Header
from backends.headers import HOP_BY_HOP
from gateway.wire.fields import Fields

_NOT_TO_ENGINES = frozenset(
    HOP_BY_HOP
    | {
        # Credentials and cookies are between the client and the gateway.
        b"authorization",
        b"api-key",
        b"x-api-key",
        b"cookie",
        # The adapter writes these itself.
        b"host",
        b"content-length",
        b"content-type",
        b"content-encoding",
        b"accept",
        b"accept-encoding",
        b"expect",
        # Set anew: ours is the one that counts.
        b"x-request-id",
        # Who the client is, is the gateway's to say.
        b"forwarded",
        b"x-real-ip",
        b"origin",
        b"referer",
        b"user-agent",
    }
)

_NOT_TO_ENGINES_PREFIXES = (
    b"x-gateway-",  # speak to the gateway
    b"x-stainless-",  # what OpenAI's SDK tells of itself
    b"sec-",
    # What proxies on the way say of the client: its address, its session, its tokens.
    b"x-forwarded-",
    b"x-auth-",
    b"x-amzn-",
    b"x-goog-",
    b"x-ms-",
    b"cf-",
)

_NOT_TO_CLIENTS = frozenset(
    HOP_BY_HOP
    | {
        b"content-length",
        b"content-encoding",
        b"date",
        b"server",
        b"set-cookie",
        b"x-request-id",
        b"openai-processing-ms",
        b"alt-svc",
        b"strict-transport-security",
        b"x-accel-buffering",
        # Which pages may read an answer is not the engine's to say.
        b"access-control-allow-origin",
        b"access-control-allow-credentials",
        b"access-control-allow-headers",
        b"access-control-allow-methods",
        b"access-control-expose-headers",
    }
)

_LONGEST_REQUEST_ID = 128
_PROCESS = secrets.token_hex(6)
_count = itertools.count(1)
"""A fresh id is unique without being secret: a random number per process, then a count."""


def of(scope: Scope) -> Fields:
    """The headers of an ASGI request; ASGI promises an iterable, servers give a list."""
    return Fields(cast(list[Header], scope["headers"]))


def request_id(headers: Fields) -> str:
    """The client's `x-request-id`, if it is fit to be repeated; else a fresh one."""
    given = headers.first(b"x-request-id")
    if given and len(given) <= _LONGEST_REQUEST_ID and _is_printable(given):
        return given.decode("ascii")
    return f"req_{_PROCESS}{next(_count):010x}"


def for_engine(headers: Fields, request_id: str) -> list[Header]:
    """What an engine may see of a client's headers; `x-gateway-*` speak to the gateway."""
    passed: list[Header] = []
    names = headers.names - _NOT_TO_ENGINES
    if names:
        names = {name for name in names if not name.startswith(_NOT_TO_ENGINES_PREFIXES)}
        names -= _listed_in_connection(headers)
    if names:
        passed = [header for header in headers.all if header[0] in names]
    passed.append((b"x-request-id", request_id.encode("ascii")))
    return passed


def for_client(headers: Sequence[Header]) -> list[Header]:
    """What a client may see of an engine's headers."""
    return [
        header
        for header in headers
        if header[0] not in _NOT_TO_CLIENTS and not header[0].startswith(b"x-gateway-")
    ]


def _listed_in_connection(headers: Fields) -> set[bytes]:
    """Headers that `Connection` names are for this hop only, whatever they are."""
    listed = headers.every(b"connection")
    return {name.strip().lower() for value in listed for name in value.split(b",")}


def _is_printable(value: bytes) -> bool:
    return all(0x21 <= byte <= 0x7E for byte in value)

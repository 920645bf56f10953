"""Requests as bytes, and what becomes of them."""

from __future__ import annotations

import json
from typing import Any

from tests.support.inprocess import ask, post
from tests.support.upstream import chunked

HEALTH = b"GET /health HTTP/1.1\r\nhost: g\r\n\r\n"
CHAT_BODY = json.dumps(ask()).encode()


def chunked_post(*chunks: bytes, trailers: bytes = b"") -> bytes:
    """A chat request in these chunks; `trailers` end with a blank line."""
    head = post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
    return head + b"".join(map(chunked, chunks)) + b"0\r\n" + trailers


def refused(answer: tuple[int, bytes, bytes]) -> tuple[int, Any]:
    """The status and the error of an answer that closed its connection."""
    status, head, body = answer
    assert b"connection: close" in head.lower()
    return status, json.loads(body)["error"]

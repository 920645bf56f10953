"""Read a request as if it had not asked for another protocol.

A server that speaks no other may ignore `Upgrade` (RFC 9110, section 7.8), but the request is a
request all the same: Java's HttpClient and `curl --http2` offer h2c with the first one they send.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

_OPTIONS = (b"upgrade", b"http2-settings")
"""Headers, and options of `Connection`, which are part of the offer."""


def head_without_upgrade(
    method: bytes, target: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """The request's head once more, without the offer. Names of `headers` are in lower case."""
    lines = [b"%s %s HTTP/%s" % (method, target, version.encode("ascii"))]
    for name, value in headers:
        if name == b"connection":
            lines.append(b"connection: " + _without_offer(value))
        elif name not in _OPTIONS:
            lines.append(name + b": " + value)
    return b"\r\n".join([*lines, b"", b""])


def _without_offer(connection: bytes) -> bytes:
    options = (option.strip() for option in connection.split(b","))
    return b", ".join(option for option in options if option.lower() not in _OPTIONS)

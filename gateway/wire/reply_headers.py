"""What the headers of an engine's answer ask for, or say of it. Nothing that is odd is an error."""

from __future__ import annotations

from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from math import isnan
from urllib.parse import urlsplit

from backends.base import Header

PLAUSIBLE_WAIT = 3600.0
"""Seconds: nobody means that it is to be left alone for longer."""
_LONGEST_HOST = 300
"""Characters of a redirect's scheme, host and port that are told."""


def retry_after(headers: Sequence[Header], wall_clock: float) -> float | None:
    """Seconds that a `Retry-After` header asks for, as a number or a date; None without one."""
    told = _first(headers, b"retry-after")
    wait = None if told is None else _seconds(told, wall_clock)
    return None if wait is None else min(max(wait, 0.0), PLAUSIBLE_WAIT)


def redirects_to(headers: Sequence[Header]) -> str:
    """` to https://host:port`, as far as `Location` may be told: a path may hold a secret."""
    try:
        target = urlsplit(_first(headers, b"location") or "")
        host, port = target.hostname, target.port
    except ValueError:
        return ""
    if not host:
        return " to another path there" if target.path else ""
    name = f"[{host}]" if ":" in host else host
    where = f"{target.scheme}://{name}" if target.scheme else name
    where = where if port is None else f"{where}:{port}"
    return f" to {where}" if where.isprintable() and len(where) <= _LONGEST_HOST else ""


def _first(headers: Sequence[Header], wanted: bytes) -> str | None:
    for name, value in headers:
        if name.lower() == wanted:
            return value.decode("latin-1").strip()
    return None


def _seconds(text: str, wall_clock: float) -> float | None:
    try:
        wait = float(text)
        return None if isnan(wait) else wait
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(text).timestamp() - wall_clock
    except (ValueError, TypeError, OverflowError):
        return None

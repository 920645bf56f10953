"""Where a replica is, by the one line that says so: a base URL, or `unix:` and a path.

`/v1` at its end and slashes do not matter; what a base URL cannot hold is refused, not dropped.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import httpx


class Base(NamedTuple):
    """Where a replica is: the URL that all of its paths are below, and how to get there."""

    url: str
    """`http://host:port/prefix`, without `/v1` and without a trailing slash."""
    uds: str | None = None
    """The Unix socket to connect to, if it is one."""


def parse_base(address: str) -> Base:
    """What a replica's address means. Raises `ValueError` that says what would be right."""
    if address.startswith("unix:"):
        return Base("http://localhost", address.removeprefix("unix:"))
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as error:
        raise ValueError(f"{address!r} is not a URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"{address!r} is not a base URL such as http://127.0.0.1:8000")
    if url.port is not None and not 0 < url.port < 65536:
        raise ValueError(f"{address!r} has a port outside 1 to 65535")
    if url.userinfo:
        raise ValueError("a replica's URL holds a user name or password: use `api_key`")
    if url.query or url.fragment:
        raise ValueError(f"{address!r} has a query or a fragment: only a base URL is wanted")
    prefix = re.sub(r"/v1$", "", url.path.rstrip("/"))
    return Base(str(url.copy_with(path=prefix or "/")).rstrip("/"))

"""What requests may bring for a model to look at, and where it may come from. Only structs."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

_HOST = r"\*|(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]"
_PORT = "6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5]?[0-9]{1,4}"
ImageHost = Annotated[
    str,
    Meta(
        pattern=rf"^({_HOST})(:({_PORT}))?$",
        description="a host such as images.example.com, *.example.com or 10.0.0.5:8080",
    ),
]


class Images(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What requests may bring for a model to look at."""

    max_per_request: Annotated[int, Meta(ge=0, le=256)] = 32
    """Images that a request may have."""
    fetch_from: tuple[ImageHost, ...] = ()
    """Hosts from which images are fetched that come as http(s) URLs, `*.` for all below a domain;
    without any, only data URLs are taken. Private addresses need a host without a wildcard."""

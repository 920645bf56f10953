"""Any OpenAI-compatible URL as a backend; also what the particular HTTP engines build on."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from backends.base import Options
from backends.secret import Secret

Url = Annotated[
    str,
    Meta(
        pattern=r"^(https?://[^\s/]|unix:/)\S*$",
        description="a URL such as http://host:8000, https://host/v1 or unix:/run/engine.sock",
    ),
]
"""`http://host:port`, `https://…`, or `unix:/path/to/socket`."""


class HttpOptions(Options, frozen=True, kw_only=True):
    """What every engine over HTTP needs."""

    replicas: Annotated[tuple[Url, ...], Meta(min_length=1)]
    """Base URLs, one per replica; a trailing `/v1` is optional."""
    api_key: Secret | None = None
    """Sent to the engine as `Authorization: Bearer`."""


class OpenAIOptions(HttpOptions, frozen=True, kw_only=True, tag="openai"):
    """Any server that speaks the OpenAI API."""

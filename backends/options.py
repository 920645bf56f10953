"""What `backends:` in routing.yaml can say: a struct for each kind of engine.

An adapter is imported by `open`, when a configuration names its engine. So whoever only reads a
configuration, or decides by one, has neither a transport nor an engine in its process.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from backends.base import Backend, Options
from backends.capabilities import Capability
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
    without: tuple[Capability, ...] = ()
    """What this server cannot do, although its kind can: such requests go elsewhere."""


class OpenAIOptions(HttpOptions, frozen=True, kw_only=True, tag="openai"):
    """Any server that speaks the OpenAI API."""

    def open(self, name: str) -> Backend:
        """Build the adapter. Raises `ValueError` for a replica that is no base URL."""
        from backends.openai_http import OpenAIHttpBackend  # noqa: PLC0415

        return OpenAIHttpBackend(name, self)


class LlamaServerOptions(HttpOptions, frozen=True, kw_only=True, tag="llama_server"):
    """llama.cpp's llama-server."""

    def open(self, name: str) -> Backend:
        """Build the adapter. Raises `ValueError` for a replica that is no base URL."""
        from backends.llama_server.backend import LlamaServerBackend  # noqa: PLC0415

        return LlamaServerBackend(name, self)


class VllmOptions(HttpOptions, frozen=True, kw_only=True, tag="vllm"):
    """vLLM's OpenAI-compatible server."""

    def open(self, name: str) -> Backend:
        """Build the adapter. Raises `ValueError` for a replica that is no base URL."""
        from backends.vllm import VllmBackend  # noqa: PLC0415

        return VllmBackend(name, self)


class InProcessOptions(Options, frozen=True, kw_only=True):
    """What every engine in this process needs."""

    model: Annotated[str, Meta(min_length=1)]
    """What to load, and from where."""
    max_batch: Annotated[int, Meta(ge=1, le=256)] = 16
    """Sequences generated together; further requests wait."""
    max_waiting: Annotated[int, Meta(ge=0)] = 256
    """Sequences that may wait for a place in the batch; beyond it 429."""


class MlxOptions(InProcessOptions, frozen=True, kw_only=True, tag="mlx"):
    """An MLX model in this process: a directory, or the id of a model on the hub."""

    model: Annotated[str, Meta(min_length=1)]
    """A directory (relative to the file that names it), or a hub id such as `org/name`."""

    def open(self, name: str) -> Backend:
        """See `Options.open`. What is missing or broken shows in `start`."""
        from backends.mlx.backend import MlxBackend  # noqa: PLC0415

        return MlxBackend(name, self)


BackendOptions = OpenAIOptions | LlamaServerOptions | VllmOptions | MlxOptions
"""Every kind of engine that `use:` may name."""

"""What is particular to llama.cpp's `llama-server`."""

from __future__ import annotations

from backends.openai_http import HttpOptions


class LlamaServerOptions(HttpOptions, frozen=True, kw_only=True, tag="llama_server"):
    """llama.cpp's llama-server."""

"""What is particular to vLLM's OpenAI server."""

from __future__ import annotations

from backends.openai_http import HttpOptions


class VllmOptions(HttpOptions, frozen=True, kw_only=True, tag="vllm"):
    """vLLM's OpenAI-compatible server."""

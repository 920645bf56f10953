"""`use: vllm`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backends.options.health import Health
from backends.options.launchable import LaunchableOptions
from backends.units import Duration

if TYPE_CHECKING:
    from backends.launch.recipes import Recipe
    from backends.openai_http import OpenAIHttpBackend


class VllmOptions(LaunchableOptions, frozen=True, kw_only=True, tag="vllm"):
    """vLLM's OpenAI-compatible server."""

    priority_scheduling: bool = False
    """Whether it runs with `--scheduling-policy priority`: then it is told how urgent a request
    is. Without that it refuses requests that say so."""
    health: Health = Health(token_interval=Duration(60))
    """How it is found out whether a replica works, beside its answer to `/health`: its server can
    outlive what generates."""

    def connect(self, name: str) -> OpenAIHttpBackend:
        """See `LaunchableOptions.connect`."""
        from backends.vllm import VllmBackend  # noqa: PLC0415

        return VllmBackend(name, self)

    def recipe(self) -> Recipe:
        """See `LaunchableOptions.recipe`."""
        from backends.launch.recipes import VLLM  # noqa: PLC0415

        return VLLM

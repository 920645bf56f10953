"""What is particular to vLLM's OpenAI server.

It has every endpoint by the same path, but only those that the model's task supports: the
others answer 404 or 501, which is passed on. `X-Request-Id` becomes the request's id in its
log. `/health` needs no key and says 503 when the engine behind the server has died; `--api-key`
guards `/v1` only.
"""

from __future__ import annotations

from typing import ClassVar

from backends.base import Readiness
from backends.capabilities import EVERYTHING, Capability
from backends.openai_http import OpenAIHttpBackend


class VllmBackend(OpenAIHttpBackend):
    """Replicas of vLLM."""

    provider = "vllm"
    capabilities = EVERYTHING
    conditional = frozenset(
        {
            Capability.EMBEDDINGS,
            Capability.RERANK,
            Capability.TOOLS,
            Capability.IMAGES,
        }
    )
    """Its server has what the model's task is; tools want `--enable-auto-tool-choice`."""
    strips: ClassVar[frozenset[bytes]] = frozenset((b"x-data-parallel-rank",))
    """It pins a request to one engine core, around vLLM's own balancing."""

    async def _check(self, address: str) -> Readiness:
        status, _ = await self.get(address, "/health")
        if status == 503:
            return Readiness(False, "the engine behind the server is dead")
        if status != 200:
            return Readiness(False, f"/health answers HTTP {status}")
        return await super()._check(address)

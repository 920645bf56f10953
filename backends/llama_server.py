"""What is particular to llama.cpp's `llama-server`.

It takes any model name and answers with the one it has loaded. `/v1/embeddings` and
`/v1/rerank` answer 501 unless it was started with `--embeddings` or `--reranking`; that is
passed on. `/health` needs no key and says 503 while the model is loading.

It notices at each piece of a stream that the caller has left, but before the first piece, and
for an answer in one piece, only after a second in which no request on the whole server had a
result (`recv_with_timeout` in its `server-queue.cpp`): on a busy server, perhaps never.
"""

from __future__ import annotations

from typing import ClassVar

from backends.base import Backend, Readiness
from backends.openai_http import HttpOptions, OpenAIHttpBackend


class LlamaServerOptions(HttpOptions, frozen=True, kw_only=True, tag="llama_server"):
    """llama.cpp's llama-server."""

    def open(self, name: str) -> Backend:
        """Build the adapter. Raises `ValueError` for a replica that is no base URL."""
        return LlamaServerBackend(name, self)


class LlamaServerBackend(OpenAIHttpBackend):
    """Replicas of llama-server."""

    provider = "llama_server"
    strips: ClassVar[frozenset[bytes]] = frozenset((b"x-conversation-id",))
    """It names a server-side stream that outlives its connection, so a cancel would not reach
    the engine, and one client could attach to another's stream."""

    async def _check(self, address: str) -> Readiness:
        status, _ = await self.get(address, "/health")
        if status == 503:
            return Readiness(False, "loading the model")
        if status != 200:
            return Readiness(False, f"/health answers HTTP {status}")
        return await super()._check(address)

"""The adapter: what differs from any other OpenAI-compatible server."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from backends.base import Readiness, Reply, Request
from backends.capabilities import EVERYTHING, Capability
from backends.llama_server.asking import as_stream, with_progress
from backends.llama_server.mistakes import unless_refused
from backends.llama_server.prompt_progress import WithoutProgress
from backends.llama_server.whole_answer import in_one_piece
from backends.openai_http import OpenAIHttpBackend
from backends.sse import is_event_stream


class LlamaServerBackend(OpenAIHttpBackend):
    """Replicas of llama-server."""

    provider = "llama_server"
    capabilities = EVERYTHING - {Capability.TOKEN_IDS}
    conditional = frozenset(
        {
            Capability.EMBEDDINGS,
            Capability.RERANK,
            Capability.TOOLS,
            Capability.FORCED_TOOLS,
            Capability.IMAGES,
        }
    )
    """`--embeddings`, `--reranking`, `--jinja` (by default), `--mmproj`."""
    strips: ClassVar[frozenset[bytes]] = frozenset((b"x-conversation-id",))
    """It names a server-side stream that outlives its connection, so a cancel would not reach
    the engine, and one client could attach to another's stream."""

    async def send(self, address: str, request: Request) -> Reply:
        """Ask the replica at `address`, for a stream whatever the client wants."""
        if request.stream:
            return await self._send_for_stream(address, request)
        asked = as_stream(request)
        if asked is None:
            return await unless_refused(await super().send(address, request))
        streamed, assembler = asked
        reply = await unless_refused(await super().send(address, streamed))
        if not is_event_stream(reply.headers):
            return reply  # an error, in the engine's own words
        return in_one_piece(address, request.endpoint, reply, assembler)

    async def _send_for_stream(self, address: str, request: Request) -> Reply:
        reporting = with_progress(request)
        reply = await unless_refused(await super().send(address, reporting or request))
        if reporting is None or not is_event_stream(reply.headers):
            return reply
        return msgspec.structs.replace(reply, body=WithoutProgress(reply.body))

    async def _check(self, address: str) -> Readiness:
        status, _ = await self.get(address, "/health")
        if status == 503:
            return Readiness(False, "loading the model")
        if status != 200:
            return Readiness(False, f"/health answers HTTP {status}")
        return await super()._check(address)

"""The adapter: what differs from any other OpenAI-compatible server."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar

import msgspec

from backends.assemble import STREAMED
from backends.base import Adapter, BackendError, Cause, Reply, Request, Stage
from backends.capabilities import EVERYTHING, Capability
from backends.gauges import LLAMA_SERVER, Gauges
from backends.llama_server.asking import as_stream, with_progress
from backends.llama_server.lora import asking_for, ids_of, puts_prompts_by_at_will, read_files
from backends.llama_server.mistakes import unless_refused
from backends.llama_server.one_usage import with_one_usage
from backends.llama_server.overlooked import not_overlooked
from backends.llama_server.prompt_progress import WithoutProgress
from backends.llama_server.whole_answer import in_one_piece
from backends.openai_http import OpenAIHttpBackend
from backends.options import LlamaServerOptions
from backends.readiness import Condition, Readiness
from backends.sse import is_event_stream


class Tokenized(msgspec.Struct):
    """What `/tokenize` answers."""

    tokens: list[int]


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
    shows_progress = STREAMED
    strips: ClassVar[frozenset[bytes]] = frozenset((b"x-conversation-id",))
    """It names a server-side stream that outlives its connection, so a cancel would not reach
    the engine, and one client could attach to another's stream."""
    gauges: ClassVar[Sequence[Gauges]] = (LLAMA_SERVER,)
    progress: ClassVar[frozenset[bytes]] = frozenset((b"llamacpp:n_decode_total",))
    """Its calls of the model: its tokens are counted when an answer ends only. It may run without
    `--metrics`."""

    def __init__(self, name: str, options: LlamaServerOptions) -> None:
        super().__init__(name, options)
        self._adapters: dict[str, dict[Adapter, int]] = {one: {} for one in self.addresses}
        """Under which id each replica has the adapters that it has."""
        self._has_files = bool(options.adapters)
        """Whether a replica may have adapters, so that each request must say which."""
        if self._has_files:
            self.capabilities = self.capabilities - {Capability.MESSAGES}
        launch = options.launch
        self._keeps_apart = launch is not None and not puts_prompts_by_at_will(launch.args)

    def has_adapter(self, address: str, adapter: Adapter) -> bool:
        """See `Backend.has_adapter`."""
        return adapter in self._adapters[address]

    async def find_adapters(self, address: str, known: Collection[Adapter]) -> frozenset[Adapter]:
        """See `Backend.find_adapters`."""
        status, body = await self.get(address, "/lora-adapters")
        if status != 200:
            raise BackendError(Stage.SENT, Cause.ENGINE, f"/lora-adapters answers HTTP {status}")
        try:
            files = read_files(body)
        except ValueError as error:
            raise BackendError(Stage.SENT, Cause.PROTOCOL, str(error)) from None
        self._has_files = self._has_files or bool(files)
        self._adapters[address] = ids_of(known, files)
        return frozenset(self._adapters[address])

    async def load_adapter(self, address: str, adapter: Adapter) -> None:  # noqa: ARG002
        """See `Backend.load_adapter`: it cannot."""
        raise BackendError(
            Stage.SENT,
            Cause.UNSUPPORTED,
            f"{adapter.path} is not among its adapters, and llama-server loads them at "
            f"its start only: start it with --lora-scaled {adapter.path}:0",
        )

    async def send(self, address: str, request: Request) -> Reply:
        """Ask the replica at `address`, for a stream whatever the client wants."""
        if self._has_files:
            request = self._for_adapter(address, request)
        request = not_overlooked(request)
        if request.stream:
            return await self._send_for_stream(address, request)
        asked = as_stream(request)
        if asked is None:
            return await unless_refused(await super().send(address, request))
        streamed, assembler = asked
        reply = await unless_refused(await super().send(address, streamed))
        if not is_event_stream(reply.headers):
            return reply  # an error, in the engine's own words
        reply = msgspec.structs.replace(reply, body=with_one_usage(streamed, reply.body))
        return in_one_piece(address, request, reply, assembler)

    async def count_text(self, address: str, text: str) -> int | None:
        """See `Backend.count_text`."""
        asked = {"content": text, "add_special": False}
        counted = await self.tell(address, "/tokenize", asked, Tokenized)
        return None if counted is None else len(counted.tokens)

    def _for_adapter(self, address: str, request: Request) -> Request:
        wanted, lora = request.adapter, None
        if wanted is not None:
            lora = self._adapters[address].get(wanted)
            if lora is None:
                reason = f"{address}: the adapter {wanted.name!r} is not loaded"
                raise BackendError(Stage.CONNECT, Cause.ENGINE, reason)
        return asking_for(request, lora, cached=self._keeps_apart)

    async def _send_for_stream(self, address: str, request: Request) -> Reply:
        reporting = with_progress(request)
        reply = await unless_refused(await super().send(address, reporting or request))
        if reporting is None or not is_event_stream(reply.headers):
            return reply
        body = with_one_usage(request, WithoutProgress(reply.body))
        return msgspec.structs.replace(reply, body=body)

    async def _check(self, address: str) -> Readiness:
        status, _ = await self.get(address, "/health")
        if status == 503:
            return Readiness(False, "loading the model", Condition.LOADING)
        if status != 200:
            return Readiness(False, f"/health answers HTTP {status}")
        return await super()._check(address)

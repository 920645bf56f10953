"""What is particular to vLLM's OpenAI server.

It has every endpoint by the same path, but only those that the model's task supports: the
others answer 404 or 501, which is passed on. `X-Request-Id` becomes the request's id in its
log. `/health` needs no key and says 503 when the engine behind the server has died; `--api-key`
guards `/v1` only.

It loads and drops LoRA adapters while it runs if it was started with `--enable-lora` and
`VLLM_ALLOW_RUNTIME_LORA_UPDATING=1`; each is a model of its own name there.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Sequence
from typing import ClassVar

import msgspec

from backends.base import Adapter, BackendError, Cause, Reply, Request, Stage
from backends.capabilities import EVERYTHING, Capability
from backends.engine_error import parse_error
from backends.gauges import VLLM, Gauges
from backends.openai_http import OpenAIHttpBackend
from backends.options import HttpOptions, VllmOptions
from backends.readiness import Readiness
from backends.vllm_adapters import LOAD, UNLOAD, Listed, name_for, names_of, read_models
from backends.vllm_lora import place_count

_NOT_ENABLED = (
    "misconfigured: it does not load adapters while it runs; start vLLM with --enable-lora and "
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"
)
_WORKER_FAILED = re.compile(
    r"Worker failed with error '(?P<what>.*)', please check the stack trace above.*", re.DOTALL
)
"""What a worker raised, where nobody has thought of it: a trace is in the engine's log."""
_NOT_FOR_THIS_MODEL = re.compile(r"size of tensor|size mismatch|shape|not found in", re.IGNORECASE)


logger = logging.getLogger(__name__)


class Counted(msgspec.Struct):
    """What `/tokenize` answers, as far as it is read."""

    count: int


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
    probes_beside = None
    strips: ClassVar[frozenset[bytes]] = frozenset((b"x-data-parallel-rank",))
    """It pins a request to one engine core, around vLLM's own balancing."""
    gauges: ClassVar[Sequence[Gauges]] = (VLLM,)
    progress: ClassVar[frozenset[bytes]] = frozenset(
        (b"vllm:generation_tokens_total", b"vllm:prompt_tokens_total")
    )
    """Its tokens."""

    def __init__(self, name: str, options: HttpOptions) -> None:
        super().__init__(name, options)
        self._adapters: dict[str, dict[Adapter, str]] = {one: {} for one in self.addresses}
        """What each replica calls the adapters that it has."""
        self.takes_priority = isinstance(options, VllmOptions) and options.priority_scheduling
        launch = options.launch if isinstance(options, VllmOptions) else None
        self._places = None if launch is None else place_count(options.loras, launch.args)
        """For how many adapters, and the base, they have been started, where that is known."""

    def has_adapter(self, address: str, adapter: Adapter) -> bool:
        """See `Backend.has_adapter`."""
        return adapter in self._adapters[address]

    def model_of(self, address: str, adapter: Adapter) -> str | None:
        """See `Backend.model_of`: an adapter is a model here."""
        return self._adapters[address].get(adapter)

    async def find_adapters(self, address: str, known: Collection[Adapter]) -> frozenset[Adapter]:
        """See `Backend.find_adapters`."""
        self._adapters[address] = names_of(known, await self._listed(address))
        return frozenset(self._adapters[address])

    async def load_adapter(self, address: str, adapter: Adapter) -> None:
        """See `Backend.load_adapter`."""
        name = name_for(adapter, (await self._listed(address)).names)
        await self._tell(address, LOAD, {"lora_name": name, "lora_path": adapter.path})
        self._adapters[address][adapter] = name
        held = len(self._adapters[address])
        if self._places is not None and held >= self._places:
            logger.warning(
                "%s: %d adapters are loaded, and it was started with --max-loras %d: on a CPU, "
                "requests for the model itself may be answered with one of them; give it %d or "
                "more (`launch.args`)",
                *(self.name, held, self._places, held + 1),
            )

    async def unload_adapter(self, address: str, adapter: Adapter) -> None:
        """See `Backend.unload_adapter`."""
        name = self._adapters[address].pop(adapter, None)
        if name is not None:
            await self._tell(address, UNLOAD, {"lora_name": name})

    async def send(self, address: str, request: Request) -> Reply:
        """Ask the replica at `address`; never the model itself for one of its adapters."""
        if request.adapter is not None and not self.has_adapter(address, request.adapter):
            reason = f"{address}: the adapter {request.adapter.name!r} is not loaded"
            raise BackendError(Stage.CONNECT, Cause.ENGINE, reason)
        return await super().send(address, request)

    async def count_text(self, address: str, text: str) -> int | None:
        """See `Backend.count_text`."""
        asked = {"prompt": text, "add_special_tokens": False}
        counted = await self.tell(address, "/tokenize", asked, Counted)
        return None if counted is None else counted.count

    async def _listed(self, address: str) -> Listed:
        status, body = await self.get(address, "/v1/models")
        if status != 200:
            reason = self.judge(address, status).reason or f"/v1/models answers HTTP {status}"
            raise BackendError(Stage.SENT, Cause.ENGINE, reason)
        try:
            return read_models(body)
        except ValueError as error:
            raise BackendError(Stage.SENT, Cause.PROTOCOL, str(error)) from None

    async def _tell(self, address: str, path: str, what: dict[str, str]) -> None:
        status, body = await self.post(address, path, msgspec.json.encode(what))
        if status == 200:
            return
        reason = _NOT_ENABLED
        if status not in (404, 405):
            said = _why(parse_error(status, body).message)
            where = what.get("lora_path", what["lora_name"])
            reason = f"vLLM refuses the adapter {where}: {said}"
        raise BackendError(Stage.SENT, Cause.ENGINE, reason)

    async def _check(self, address: str) -> Readiness:
        status, _ = await self.get(address, "/health")
        if status == 503:
            return Readiness(False, "the engine behind the server is dead")
        if status != 200:
            return Readiness(False, f"/health answers HTTP {status}")
        return await super()._check(address)


def _why(message: str) -> str:
    """Why an adapter is refused, without leading to a trace that nobody who reads this sees."""
    if (failed := _WORKER_FAILED.fullmatch(message)) is None:
        return message
    what = failed["what"]
    if _NOT_FOR_THIS_MODEL.search(what):
        return f"it is for another model, or broken: {what}"
    return f"it is broken: {what}"

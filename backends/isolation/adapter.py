"""What asks the child of `isolation: process`: the engine behind it is to seem in this process.

So what the engine raises there is raised here, and how busy it is is known: as of the last look at
its health.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from typing import NoReturn

import msgspec

from backends.base import Adapter, BackendError, Cause, Reply, Request, RequestRefused, Stage
from backends.isolation.options import IsolatedOptions
from backends.isolation.server import (
    ADAPTER_HEADER,
    ADAPTERS_PATH,
    COUNT_PATH,
    Counted,
    Failed,
    Health,
)
from backends.load import Demand, Load
from backends.malformed import MALFORMED
from backends.openai_http import PROBE_TIMEOUT, OpenAIHttpBackend
from backends.readiness import Readiness

_MAX_ERROR = 1 << 16
"""Bytes of an error that are read."""
_decode_health = msgspec.json.Decoder(Health).decode
_decode_adapters = msgspec.json.Decoder(tuple[Adapter, ...]).decode
_decode_failed = msgspec.json.Decoder(Failed).decode


class IsolatedAdapter(OpenAIHttpBackend):
    """One child."""

    probes_beside = None

    def __init__(self, name: str, options: IsolatedOptions) -> None:
        super().__init__(name, options)
        kind = options.inner.adapter()
        self.provider = kind.provider
        self.capabilities, self.conditional = kind.capabilities, kind.conditional
        self.counts_chats = kind.counts_chats
        self.takes_priority = kind.takes_priority
        self._load: Load | None = None
        self._adapters: frozenset[Adapter] = frozenset()

    async def send(self, address: str, request: Request) -> Reply:
        """Ask the child; raises what the engine raised there."""
        if request.adapter is not None:
            named = (ADAPTER_HEADER, json.dumps(msgspec.to_builtins(request.adapter)).encode())
            request = msgspec.structs.replace(request, headers=[*request.headers, named])
        reply = await super().send(address, request)
        if reply.status == 200:
            return reply
        try:
            await _fail(address, reply)
        finally:
            await reply.body.aclose()

    def has_adapter(self, address: str, adapter: Adapter) -> bool:  # noqa: ARG002 — there is one child
        """See `Backend.has_adapter`."""
        return adapter in self._adapters

    async def find_adapters(self, address: str, known: Collection[Adapter]) -> frozenset[Adapter]:
        """See `Backend.find_adapters`."""
        self._adapters = await self._change(address, "find", known)
        return self._adapters

    async def load_adapter(self, address: str, adapter: Adapter) -> None:
        """See `Backend.load_adapter`."""
        self._adapters |= await self._change(address, "load", [adapter])

    async def unload_adapter(self, address: str, adapter: Adapter) -> None:
        """See `Backend.unload_adapter`."""
        self._adapters -= {adapter}
        self._adapters |= await self._change(address, "unload", [adapter])

    async def _change(
        self, address: str, verb: str, adapters: Collection[Adapter]
    ) -> frozenset[Adapter]:
        """Those of `adapters` that the engine has after it did that; raises what it raised."""
        body = msgspec.json.encode(list(adapters))
        status, answer = await self.post(address, ADAPTERS_PATH + verb, body)
        if status != 200:
            _raise(address, status, answer)
        try:
            return frozenset(_decode_adapters(answer))
        except MALFORMED:
            message = f"{address} answers {ADAPTERS_PATH}{verb} with something else"
            raise BackendError(Stage.SENT, Cause.PROTOCOL, message) from None

    def load(self, address: str) -> Load | None:  # noqa: ARG002 — there is one child
        """How busy it was at the last look."""
        return self._load

    async def demand(self, address: str) -> Demand | None:
        """See `Backend.demand`."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                load = (await self._look(address)).load
        except (BackendError, TimeoutError):
            return None
        return None if load is None else Demand.of(load)

    async def count_text(self, address: str, text: str) -> int | None:
        """See `Backend.count_text`."""
        counted = await self.tell(address, COUNT_PATH, text, Counted)
        return None if counted is None else counted.tokens

    async def steps(self, address: str) -> float | None:
        """See `OpenAIHttpBackend.steps`."""
        await self._check(address)
        return None if self._load is None else self._load.steps

    async def _check(self, address: str) -> Readiness:
        return (await self._look(address)).readiness

    async def _look(self, address: str) -> Health:
        """What it says of its health. Raises `BackendError`."""
        status, body = await self.get(address, "/health")
        try:
            health = _decode_health(body)
        except MALFORMED:
            message = f"/health answers HTTP {status} with something else"
            raise BackendError(Stage.SENT, Cause.PROTOCOL, message) from None
        self._load = health.load
        if health.readiness.ready:  # before, the model has not been looked at
            self.capabilities, self.conditional = health.capabilities, health.conditional
            self.why_not = health.why_not
        return health


async def _fail(address: str, reply: Reply) -> NoReturn:
    body = bytearray()
    async for piece in reply.body:
        body += piece
        if len(body) > _MAX_ERROR:
            break
    _raise(address, reply.status, body)


def _raise(address: str, status: int, body: bytes | bytearray) -> NoReturn:
    """Raise what the engine raised there."""
    try:
        failed = _decode_failed(body)
    except MALFORMED:
        message = f"{address} answers HTTP {status} with something else"
        raise BackendError(Stage.SENT, Cause.PROTOCOL, message) from None
    error = failed.error
    if failed.refused:
        raise RequestRefused(
            status,
            error.message,
            param=error.param,
            code=error.code,
            retry_after=failed.retry_after,
        )
    raise BackendError(failed.stage, failed.cause, error.message)

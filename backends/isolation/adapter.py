"""What asks the child of `isolation: process`: the engine behind it is to seem in this process.

So what the engine raises there is raised here, and how busy it is is known: as of the last look at
its health.
"""

from __future__ import annotations

import json
from typing import NoReturn

import msgspec

from backends.base import (
    BackendError,
    Cause,
    Load,
    Readiness,
    Reply,
    Request,
    RequestRefused,
    Stage,
)
from backends.isolation.options import IsolatedOptions
from backends.isolation.server import ADAPTER_HEADER, Failed, Health
from backends.malformed import MALFORMED
from backends.openai_http import OpenAIHttpBackend

_MAX_ERROR = 1 << 16
"""Bytes of an error that are read."""
_decode_health = msgspec.json.Decoder(Health).decode
_decode_failed = msgspec.json.Decoder(Failed).decode


class IsolatedAdapter(OpenAIHttpBackend):
    """One child."""

    def __init__(self, name: str, options: IsolatedOptions) -> None:
        super().__init__(name, options)
        kind = options.inner.open_here(name)
        self.provider = kind.provider
        self.capabilities, self.conditional = kind.capabilities, kind.conditional
        self.counts_chats = kind.counts_chats
        self._load: Load | None = None

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

    def load(self, address: str) -> Load | None:  # noqa: ARG002 — there is one child
        """How busy it was at the last look."""
        return self._load

    async def _check(self, address: str) -> Readiness:
        status, body = await self.get(address, "/health")
        try:
            health = _decode_health(body)
        except MALFORMED:
            return Readiness(False, f"/health answers HTTP {status} with something else")
        self._load = health.load
        return health.readiness


async def _fail(address: str, reply: Reply) -> NoReturn:
    body = bytearray()
    async for piece in reply.body:
        body += piece
        if len(body) > _MAX_ERROR:
            break
    try:
        failed = _decode_failed(body)
    except MALFORMED:
        message = f"{address} answers HTTP {reply.status} with something else"
        raise BackendError(Stage.SENT, Cause.PROTOCOL, message) from None
    error = failed.error
    if failed.refused:
        raise RequestRefused(
            reply.status,
            error.message,
            param=error.param,
            code=error.code,
            retry_after=failed.retry_after,
        )
    raise BackendError(failed.stage, failed.cause, error.message)

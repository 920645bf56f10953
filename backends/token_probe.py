"""Ask an engine over HTTP for one token: what a server in front of a dead generator cannot give.

It goes past everything that is counted for clients. The answer is one of three: a token, none, or
that nothing can be told, and a model that makes no tokens is none to be suspected.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from backends.base import BackendError, Endpoint, Reply, Request, RequestRefused
from backends.launch.doubt import Token
from backends.readiness import Condition

if TYPE_CHECKING:
    from backends.openai_http import OpenAIHttpBackend

_CANNOT = frozenset({400, 404, 405, 422, 501})
"""Statuses with which an engine says that its model is not made for this."""
_NO_ROOM = frozenset({429, 503})
_ASKED: tuple[tuple[Endpoint, dict[str, object]], ...] = (
    (Endpoint.COMPLETIONS, {"prompt": "Hi", "max_tokens": 1, "stream": False}),
    (Endpoint.EMBEDDINGS, {"input": "Hi"}),
)


class TokenProbe:
    """One replica of an adapter, in doubt: a `Doubtful`."""

    def __init__(self, adapter: OpenAIHttpBackend, address: str, model: str) -> None:
        """`model` is the engine's own name for it."""
        self._adapter = adapter
        self._address = address
        self._model = model

    async def make_token(self, within: float) -> Token:
        """Ask for one token, whatever it is. Never raises `BackendError`."""
        try:
            async with asyncio.timeout(within):
                return await self._make_token()
        except TimeoutError:
            return Token(False, f"made no token within {within:g} s")
        except BackendError as error:
            return Token(False, f"made no token: {error.message}")

    async def steps(self, within: float) -> float | None:
        """See `Doubtful.steps`. Never raises `BackendError`."""
        try:
            async with asyncio.timeout(within):
                return await self._adapter.steps(self._address)
        except (TimeoutError, BackendError):
            return None

    async def _make_token(self) -> Token:
        """A completion, or, of an engine that has none, an embedding.

        One that has neither still answers: then there is no token to ask for.
        """
        for endpoint, fields in _ASKED:
            status = await self._status(endpoint, fields)
            if status not in _CANNOT:
                break
        if status < 300 or status in _CANNOT:
            return Token(True)
        said = self._adapter.judge(self._address, status)
        if said.condition is Condition.MISCONFIGURED:
            return Token(False, said.reason, condition=said.condition)
        why_not = f"answers HTTP {status} when asked for a token"
        return Token(False, why_not, refused=status in _NO_ROOM)

    async def _status(self, endpoint: Endpoint, fields: dict[str, object]) -> int:
        body = msgspec.json.encode({"model": self._model, **fields})
        try:
            request = Request(endpoint=endpoint, body=body)
            reply = await self._adapter.send(self._address, request)
        except RequestRefused as refused:
            return refused.status
        return await _drained(reply)


async def _drained(reply: Reply) -> int:
    try:
        async for _ in reply.body:
            pass
    finally:
        await reply.body.aclose()
    return reply.status

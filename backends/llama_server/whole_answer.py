"""The one answer that a client wants, made from the stream that llama-server was asked for.

It has the fields of the engine's own, except where the stream lacks them:

- responses: `completed_at` is `created_at`, which the engine itself fills in alike, and the
  `status` of a reasoning item is that of the response;
- `logprobs` end with the last token that has text (the engine's own list the end-of-text token
  too), and tokens that show up in no delta, the frame around a tool call, have none;
- `usage` counts all choices, where the engine counts the first (`one_usage`);
- `__verbose` (a server started for debugging) tells no text, because the stream's does not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from backends.assemble import Assembler, BrokenStreamError, EngineSaysError
from backends.base import (
    BackendError,
    ByteStream,
    Cause,
    Endpoint,
    Reply,
    Request,
    RequestRefused,
    Stage,
)
from backends.engine_error import EngineError
from backends.sse import EventCutter, EventTooLargeError

_OF_STREAMS = frozenset((b"content-type", b"content-length", b"cache-control"))
"""Headers of a stream that say nothing true of the answer made from it."""


def in_one_piece(address: str, request: Request, reply: Reply, assembler: Assembler) -> Reply:
    """`reply`, a stream, as the reply to `request` that would have come without streaming."""
    headers = [header for header in reply.headers if header[0] not in _OF_STREAMS]
    headers.append((b"content-type", b"application/json"))
    return Reply(reply.status, headers, WholeAnswer(address, request, reply.body, assembler))


class WholeAnswer:
    """A stream as an answer in one piece: the first piece comes when the stream has ended."""

    def __init__(
        self, address: str, request: Request, stream: ByteStream, assembler: Assembler
    ) -> None:
        self._address = address
        self._endpoint = request.endpoint
        self._on_progress = request.on_progress
        self._stream = stream
        self._assembler = assembler
        self._over = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._over:
            raise StopAsyncIteration
        self._over = True
        try:
            answer = await self._gather()
        except EngineSaysError as error:
            raise self._translate(error.said) from error
        except (BrokenStreamError, EventTooLargeError) as error:
            raise self._broken(str(error)) from error
        return msgspec.json.encode(_unstreamed(self._endpoint, answer))

    async def aclose(self) -> None:
        self._over = True
        self._on_progress = None  # who hears of it holds this: nobody need look for such rings
        await self._stream.aclose()

    async def _gather(self) -> dict[str, Any]:
        cutter, assembler = EventCutter(), self._assembler
        async for piece in self._stream:
            if block := cutter.feed(piece):
                assembler.feed(block)
                if self._on_progress is not None:
                    self._on_progress(block)
        if cutter.rest.strip():
            assembler.feed(cutter.rest + b"\n\n")
        return assembler.answer()

    def _translate(self, said: EngineError) -> BackendError:
        if said.status is not None and said.is_clients_own:
            return RequestRefused(said.status, said.message, param=said.param, code=said.code)
        return BackendError(Stage.STREAMING, Cause.ENGINE, f"{self._address}: {said.message}")

    def _broken(self, reason: str) -> BackendError:
        return BackendError(Stage.STREAMING, Cause.PROTOCOL, f"{self._address}: {reason}")


def _unstreamed(endpoint: Endpoint, answer: dict[str, Any]) -> dict[str, Any]:
    """`answer` with what llama-server tells in streams only, or only without them, put right."""
    answer.pop("prompt_progress", None)
    if endpoint is Endpoint.RESPONSES:
        answer.setdefault("completed_at", answer.get("created_at"))
        output = answer.get("output")
        for item in output if isinstance(output, list) else ():
            if isinstance(item, dict):
                item.setdefault("status", answer.get("status"))
    return answer

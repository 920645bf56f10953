"""Ask one replica one question. Whatever goes wrong is part of the answer; every wait ends."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from backends.base import (
    Adapter,
    Backend,
    BackendError,
    Cause,
    Endpoint,
    Reply,
    Request,
    RequestRefused,
    Stage,
)
from backends.capabilities import Capability
from backends.engine_error import EngineError, parse_error
from backends.malformed import MALFORMED
from backends.sse import is_event_stream

Fields = Mapping[str, Any]

ANSWER_TIMEOUT = 120.0
"""Seconds for one answer: a large model on a slow machine, and a short answer."""
_LONGEST_ANSWER = 16 << 20
_CLOSED = ((Stage.SENT, Cause.RESET), (Stage.SENT, Cause.PROTOCOL))
"""How a connection looks that the other side has closed before it could answer."""


class Target(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One replica, and what it calls the model."""

    name: str
    """What the report calls it: unique in it."""
    backend: Backend
    address: str
    model: str
    adapter: Adapter | None = None
    """The LoRA adapter that shall answer."""
    translated: frozenset[Capability] = frozenset()
    """What the gateway makes of its chats, where it has not got it itself."""
    start_failure: str = ""
    """Why its backend could not be started, if so."""
    adapter_fault: str = ""
    """Why the replica could not load it, if so."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica said; `status` is 0 where there is no answer, and `failure` says why."""

    status: int
    body: bytes = b""
    failure: str = ""
    streamed: bool = False

    @property
    def ok(self) -> bool:
        """It is an answer to the question."""
        return 200 <= self.status < 300

    @property
    def refused(self) -> bool:
        """The replica said a clear no: the request is at fault, or it lacks what was asked."""
        return 400 <= self.status < 500 or self.status == 501

    @property
    def error(self) -> EngineError:
        """What it says went wrong."""
        if self.failure:
            return EngineError(self.failure)
        return parse_error(self.status, self.body)

    def json(self) -> Any:
        """The body; None where it is no JSON."""
        try:
            return msgspec.json.decode(self.body)
        except MALFORMED:
            return None

    def told(self) -> str:
        """In a few words, for reports."""
        if self.failure:
            return self.failure
        said = "an answer" if self.ok else self.error.message
        return f"HTTP {self.status}: {said}"


def request(target: Target, endpoint: Endpoint, fields: Fields, *, stream: bool = False) -> Request:
    """The request for `fields`, in which the model's name need not stand."""
    model = target.model
    if target.adapter is not None:
        model = target.backend.model_of(target.address, target.adapter) or model
    asked = {"model": model, **fields}
    if stream:
        asked["stream"] = True
    body = msgspec.json.encode(asked)
    return Request(endpoint=endpoint, body=body, stream=stream, adapter=target.adapter)


async def ask(
    target: Target,
    endpoint: Endpoint,
    fields: Fields,
    *,
    stream: bool = False,
    timeout: float = ANSWER_TIMEOUT,
) -> Answer:
    """Ask, and take all that comes, within `timeout` seconds. Raises nothing but cancellation."""
    try:
        await awake(target)
        async with asyncio.timeout(timeout):
            return await _take(await send(target, request(target, endpoint, fields, stream=stream)))
    except TimeoutError:
        return Answer(status=0, failure=f"no whole answer within {timeout:g} s")
    except RequestRefused as error:
        said = {"message": error.message, "param": error.param, "code": error.code}
        return Answer(status=error.status, body=msgspec.json.encode({"error": said}))
    except BackendError as error:
        return Answer(status=0, failure=f"{error.stage}: {error.message}")


async def awake(target: Target) -> None:
    """Wait for an engine that sleeps or starts, as long as it may take for that itself.

    Raises `BackendError`.
    """
    readying = target.backend.readying(target.address)
    if readying is not None:
        await readying


async def send(target: Target, asked: Request) -> Reply:
    """Ask, and once more where an idle connection was closed just then: as any client does.

    Whoever asks waits until the engine is `awake` first. Raises `BackendError`.
    """
    try:
        return await target.backend.send(target.address, asked)
    except BackendError as error:
        if (error.stage, error.cause) not in _CLOSED:
            raise
    return await target.backend.send(target.address, asked)


async def _take(reply: Reply) -> Answer:
    pieces, size = [], 0
    try:
        async for piece in reply.body:
            pieces.append(piece)
            size += len(piece)
            if size > _LONGEST_ANSWER:
                return Answer(status=0, failure=f"an answer of more than {_LONGEST_ANSWER} bytes")
    finally:
        await reply.body.aclose()
    streamed = is_event_stream(reply.headers)
    return Answer(status=reply.status, body=b"".join(pieces), streamed=streamed)

"""An engine of this process, served over HTTP: what the child of `isolation: process` runs.

Rules of this file:

- It speaks the OpenAI API by the paths of `Endpoint`, so that the gateway's own HTTP adapter can
  ask it; `/health` tells what only the owner of an engine knows, `/adapters/…` asks for what only
  it can do, and `/count` how many tokens a text is.
- A client that leaves is the only cancel: the reply is closed at once, the engine stops.
- An engine that fails in the middle of a stream says so in an event, and there is no end mark.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

import msgspec

from backends.base import (
    Adapter,
    Backend,
    BackendError,
    Cause,
    Endpoint,
    Header,
    Reply,
    Request,
    RequestRefused,
    Stage,
)
from backends.capabilities import Capability
from backends.load import Load
from backends.malformed import MALFORMED
from backends.readiness import Readiness

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

ADAPTER_HEADER = b"x-gateway-adapter"
"""Tells the LoRA adapter to answer with, as JSON; no client's header of that name comes here."""

ADAPTERS_PATH = "/adapters/"
COUNT_PATH = "/count"

_PREFIX = "/v1/"
_JSON: Header = (b"content-type", b"application/json")
_encode = msgspec.json.encode
_decode_adapters = msgspec.json.Decoder(tuple[Adapter, ...]).decode
_decode_text = msgspec.json.Decoder(str).decode
_MAX_BODY = 256 << 20
"""Bytes of a request's body. The gateway has bounded what comes from clients long before."""


class Health(msgspec.Struct, frozen=True):
    """What `/health` says."""

    readiness: Readiness
    load: Load | None
    capabilities: frozenset[Capability] = frozenset()
    """What it can with the model that it has loaded; see `Backend`, as for the next two."""
    conditional: frozenset[Capability] = frozenset()
    why_not: Mapping[Capability, str] = {}


class Counted(msgspec.Struct, frozen=True):
    """What `/count` says: how many tokens a text is, or null where that cannot be told."""

    tokens: int | None


class ErrorObject(msgspec.Struct, frozen=True):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class Failed(msgspec.Struct, frozen=True):
    """The body of an answer other than 200, with all that it takes to raise the error again."""

    error: ErrorObject
    refused: bool
    """The engine says no to the request."""
    stage: Stage
    cause: Cause
    retry_after: float | None = None


class EngineServer:
    """An ASGI application in front of one replica of an opened and started `backend`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        (self._address,) = backend.addresses

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path == "/health":
            await _answer(send, 200, _encode(await self._health()))
            return
        try:
            body = await _read(receive)
        except RequestRefused as refused:
            await _answer(send, refused.status, _failed(refused))
            return
        if body is None:
            return
        if path.startswith(ADAPTERS_PATH):
            await self._change(path.removeprefix(ADAPTERS_PATH), body, send)
            return
        if path == COUNT_PATH:
            await self._count(body, send)
            return
        try:
            endpoint = Endpoint(path.removeprefix(_PREFIX))
        except ValueError:
            await _answer(send, 404, _failed(RequestRefused(404, f"there is no {path} here")))
            return
        request = Request(
            endpoint=endpoint,
            body=body,
            headers=scope["headers"],
            stream=_wants_stream(body),
            adapter=_adapter(scope["headers"]),
        )
        await _unless_gone(receive, self._serve(request, send))

    async def _health(self) -> Health:
        readiness = await self._backend.probe(self._address)
        one = self._backend
        return Health(
            readiness,
            one.load(self._address),
            one.capabilities,
            one.conditional,
            one.why_not,
        )

    async def _change(self, verb: str, body: bytes, send: Send) -> None:
        """Do what the gateway wants with adapters; the answer is those that there are then.

        `find`, `load`, `unload`: of the adapters in `body`, a list. It is done also when nobody
        waits for it any more: half of it would be worse.
        """
        try:
            adapters = frozenset(_decode_adapters(body))
            for adapter in adapters:
                if verb == "load":
                    await self._backend.load_adapter(self._address, adapter)
                elif verb == "unload":
                    await self._backend.unload_adapter(self._address, adapter)
            found = await self._backend.find_adapters(self._address, adapters)
        except MALFORMED as error:
            await _answer(send, 400, _failed(RequestRefused(400, str(error))))
        except BackendError as error:
            await _answer(send, _status(error), _failed(error))
        else:
            await _answer(send, 200, _encode(found))

    async def _count(self, body: bytes, send: Send) -> None:
        """How many tokens `body` is, a text in JSON."""
        try:
            text = _decode_text(body)
        except MALFORMED as error:
            await _answer(send, 400, _failed(RequestRefused(400, str(error))))
        else:
            tokens = await self._backend.count_text(self._address, text)
            await _answer(send, 200, _encode(Counted(tokens)))

    async def _serve(self, request: Request, send: Send) -> None:
        try:
            reply = await self._backend.send(self._address, request)
        except BackendError as error:
            await _answer(send, _status(error), _failed(error))
        else:
            await _relay(reply, send)


async def _relay(reply: Reply, send: Send) -> None:
    try:
        await send(
            {"type": "http.response.start", "status": reply.status, "headers": reply.headers}
        )
        try:
            async for piece in reply.body:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except BackendError as error:
            event = b"data: " + _failed(error) + b"\n\n"
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        await reply.body.aclose()


async def _unless_gone(receive: Receive, work: Awaitable[None]) -> None:
    """Do `work`, and cancel it when the client leaves. What it raises is raised."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.wait((working, leaving))
    if not working.cancelled():
        working.result()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _read(receive: Receive) -> bytes | None:
    """The body, whole; None where the client left before. Raises `RequestRefused`: too large."""
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        piece = message.get("body", b"")
        size += len(piece)
        if size > _MAX_BODY:
            raise RequestRefused(413, f"the request's body has more than {_MAX_BODY} bytes")
        pieces.append(piece)
        if not message.get("more_body"):
            return b"".join(pieces)


class _Streaming(msgspec.Struct):
    stream: bool | None = None


def _wants_stream(body: bytes) -> bool:
    try:
        return msgspec.json.decode(body, type=_Streaming).stream is True
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False  # the engine has the words for what is wrong with it


def _adapter(headers: Iterable[Header]) -> Adapter | None:
    for name, value in headers:
        if name == ADAPTER_HEADER:
            return msgspec.json.decode(value, type=Adapter)
    return None


async def _answer(send: Send, status: int, body: bytes) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [_JSON, length]})
    await send({"type": "http.response.body", "body": body})


def _status(error: BackendError) -> int:
    return error.status if isinstance(error, RequestRefused) else 503


def _failed(error: BackendError) -> bytes:
    refused = isinstance(error, RequestRefused)
    return _encode(
        Failed(
            error=ErrorObject(
                message=error.message,
                type="invalid_request_error" if refused else "server_error",
                param=error.param if isinstance(error, RequestRefused) else None,
                code=error.code if isinstance(error, RequestRefused) else None,
            ),
            refused=refused,
            stage=error.stage,
            cause=error.cause,
            retry_after=error.retry_after if isinstance(error, RequestRefused) else None,
        )
    )

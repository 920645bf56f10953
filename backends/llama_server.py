"""What is particular to llama.cpp's `llama-server`.

It takes any model name and answers with the one it has loaded. `/v1/embeddings` and
`/v1/rerank` answer 501 unless it was started with `--embeddings` or `--reranking`; that is
passed on. `/health` needs no key and says 503 while the model is loading.

It looks whether the caller has left after each piece of a stream, and otherwise only after a
second in which no request on the whole server had a result (`recv_with_timeout` in its
`server-queue.cpp`): on a busy server, perhaps never. Therefore it is always asked for a stream,
with a piece for each part of the prompt (`return_progress`), and for a client that wants none
the one answer is assembled here. A request that has not been given a slot yet has no pieces: it
stays in the queue, and is dropped when its first part of a prompt would be worked on.

It answers 500 to some mistakes of the client, such as an image for a model that has no eyes.
Those are refused as what they are: else they would be tried again, and a few of them would make
a sound replica look broken.

The assembled answer has the fields of the engine's own, except where the stream lacks them:

- responses: `completed_at` is `created_at`, which the engine itself fills in alike, and the
  `status` of a reasoning item is that of the response;
- `logprobs` end with the last token that has text (the engine's own list the end-of-text token
  too), and tokens that show up in no delta, the frame around a tool call, have none;
- `__verbose` (a server started for debugging) tells no text, because the stream's does not.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import msgspec

from backends.assemble import Assembler, BrokenStreamError, EngineSaysError, assembler_for
from backends.base import (
    BackendError,
    ByteStream,
    Cause,
    Endpoint,
    Readiness,
    Reply,
    Request,
    RequestRefused,
    Stage,
)
from backends.engine_error import EngineError
from backends.malformed import MALFORMED
from backends.openai_http import OpenAIHttpBackend
from backends.prompt_progress import WithoutProgress
from backends.sse import EventCutter, EventTooLargeError, is_event_stream

_TRUE = msgspec.Raw(b"true")
_WITH_USAGE = msgspec.Raw(b'{"include_usage":true}')
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_count = msgspec.json.Decoder(int).decode
_encode = msgspec.json.encode


class LlamaServerBackend(OpenAIHttpBackend):
    """Replicas of llama-server."""

    provider = "llama_server"
    strips: ClassVar[frozenset[bytes]] = frozenset((b"x-conversation-id",))
    """It names a server-side stream that outlives its connection, so a cancel would not reach
    the engine, and one client could attach to another's stream."""

    async def send(self, address: str, request: Request) -> Reply:
        """Ask the replica at `address`, for a stream whatever the client wants."""
        if request.stream:
            return await self._send_for_stream(address, request)
        asked = _as_stream(request)
        if asked is None:
            return await _unless_refused(await super().send(address, request))
        streamed, assembler = asked
        reply = await _unless_refused(await super().send(address, streamed))
        if not is_event_stream(reply.headers):
            return reply  # an error, in the engine's own words
        headers = [header for header in reply.headers if header[0] not in _OF_STREAMS]
        headers.append((b"content-type", b"application/json"))
        return Reply(
            reply.status, headers, _Whole(address, request.endpoint, reply.body, assembler)
        )

    async def _send_for_stream(self, address: str, request: Request) -> Reply:
        reporting = _with_progress(request)
        reply = await _unless_refused(await super().send(address, reporting or request))
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


_MISTAKES = {
    "messages": re.compile("(image|audio|video) input is not supported|Failed to parse messages"),
    "tools": re.compile("Failed to parse tools"),
}
"""How the messages of a 500 begin that is the client's to mend, by the field at fault."""

_LONGEST_ERROR = 1 << 16
"""Bytes of a failure that are read to find out whose it is."""


async def _unless_refused(reply: Reply) -> Reply:
    """`reply`, to be read from its beginning; raises `RequestRefused` for a client's mistake."""
    if reply.status != 500:
        return reply
    head = b""
    try:
        async for piece in reply.body:
            head += piece
            if len(head) > _LONGEST_ERROR:
                break
        _refuse_mistakes(head)
    except BaseException:
        await reply.body.aclose()
        raise
    return msgspec.structs.replace(reply, body=_Reread(head, reply.body))


def _refuse_mistakes(body: bytes) -> None:
    try:
        message = _decode_failure(body).error.message
    except MALFORMED:
        return
    for param, mistake in _MISTAKES.items():
        if mistake.match(message):
            raise RequestRefused(400, message, param=param)


class _Error(msgspec.Struct):
    message: str


class _Failure(msgspec.Struct):
    error: _Error


_decode_failure = msgspec.json.Decoder(_Failure).decode


class _Reread:
    """A stream of which the beginning has been read already."""

    def __init__(self, head: bytes, rest: ByteStream) -> None:
        self._head = head
        self._rest = rest

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        head, self._head = self._head, b""
        return head or await anext(self._rest)

    async def aclose(self) -> None:
        self._head = b""
        await self._rest.aclose()


_OF_STREAMS = frozenset((b"content-type", b"content-length", b"cache-control"))
"""Headers of a stream that say nothing true of the answer made from it."""


def _as_stream(request: Request) -> tuple[Request, Assembler] | None:
    """`request` for a stream and what assembles that; None where only the engine can answer."""
    try:
        fields = _decode_fields(request.body)
        choices = _decode_count(fields["n"]) if "n" in fields else 1
    except MALFORMED:
        return None  # the engine has the words for what is wrong with it
    assembler = assembler_for(request.endpoint, choices)
    if assembler is None:
        return None
    fields["stream"] = fields["return_progress"] = _TRUE
    if request.endpoint in (Endpoint.CHAT, Endpoint.COMPLETIONS):
        fields["stream_options"] = _WITH_USAGE
    body = _encode(fields)
    return msgspec.structs.replace(request, body=body, stream=True), assembler


def _with_progress(request: Request) -> Request | None:
    """`request`, to be told of the work on its prompt; None where that is the client's affair.

    The other dialects tell it in events that they cannot do without.
    """
    if request.endpoint not in (Endpoint.CHAT, Endpoint.COMPLETIONS):
        return None
    try:
        fields = _decode_fields(request.body)
    except MALFORMED:
        return None
    if "return_progress" in fields:
        return None
    fields["return_progress"] = _TRUE
    return msgspec.structs.replace(request, body=_encode(fields))


class _Whole:
    """A stream as an answer in one piece: the first piece comes when the stream has ended."""

    def __init__(
        self, address: str, endpoint: Endpoint, stream: ByteStream, assembler: Assembler
    ) -> None:
        self._address = address
        self._endpoint = endpoint
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
        return _encode(_unstreamed(self._endpoint, answer))

    async def aclose(self) -> None:
        self._over = True
        await self._stream.aclose()

    async def _gather(self) -> dict[str, Any]:
        cutter, assembler = EventCutter(), self._assembler
        async for piece in self._stream:
            if block := cutter.feed(piece):
                assembler.feed(block)
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

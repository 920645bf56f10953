"""Ask an engine to go on from what another one has said: the request, and what its reply becomes.

In another dialect than a chat's it is asked in a chat, also where the engine speaks the dialect:
a chat can be gone on with, and what comes is translated as from engines that have only chats.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from backends.base import Backend, BackendError, ByteStream, Cause, Endpoint, Reply, Stage
from backends.sse import EventTooLargeError, is_event_stream
from gateway.dispatch.ask import Ask
from gateway.dispatch.failover_rules import CannotGoOnError
from gateway.wire.resume.continuation import PREFILLS, Continued, Said, continued_body
from gateway.wire.translate import Translation


class Continuation(msgspec.Struct, frozen=True, kw_only=True):
    """One request, as an engine is asked that shall go on with its answer."""

    endpoint: Endpoint
    body: bytes
    translation: Translation | None
    """What makes the client's dialect of the answer, where it is another one."""
    said: Said


def continuation_for(ask: Ask, backend: Backend, said: Said) -> Continuation:
    """`ask` for `backend`, after `said`. Raises `CannotGoOnError`."""
    translation, endpoint = None, ask.endpoint
    if ask.endpoint not in (Endpoint.CHAT, Endpoint.COMPLETIONS):
        translation, endpoint = ask.as_chat().translation, Endpoint.CHAT
        if translation is None:
            raise CannotGoOnError("its request cannot be said as a chat")
    asked = ask.body if translation is None else translation.body
    body = continued_body(endpoint, asked, said, PREFILLS.get(backend.provider, {}))
    if body is None:
        raise CannotGoOnError(
            "its request has no place for what was said: its limit is reached, or it ends with "
            "the assistant's own words"
        )
    return Continuation(endpoint=endpoint, body=body, translation=translation, said=said)


def completed(reply: Reply, continuation: Continuation) -> Reply:
    """`reply`, which goes on after what was said, as one that says it all."""
    if reply.status != 200 or not is_event_stream(reply.headers):
        return reply
    body = ContinuedStream(reply.body, Continued(continuation.said))
    return Reply(reply.status, reply.headers, body)


class ContinuedStream:
    """A stream that goes on, as one that begins at the beginning."""

    def __init__(self, stream: ByteStream, continued: Continued) -> None:
        self._stream = stream
        self._continued = continued
        self._ended = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._ended:
            try:
                piece = await self._stream.__anext__()
            except StopAsyncIteration:
                self._ended = True
                out = self._continued.end()
            else:
                out = self._feed(piece)
            if out:
                return out
        raise StopAsyncIteration

    async def aclose(self) -> None:
        await self._stream.aclose()

    def _feed(self, piece: bytes) -> bytes:
        try:
            return self._continued.feed(piece)
        except EventTooLargeError as error:
            raise BackendError(Stage.STREAMING, Cause.PROTOCOL, str(error)) from error

"""Ask in a chat what a client asks in another dialect, where that is all that its engine has.

Rules of this file:

- An engine that serves the endpoint itself gets the request untouched: it knows best.
- A request is translated once, however many engines are asked; so is the refusal kept.
- What comes out of here is a reply in the client's dialect, bytes and breaks included. So the
  commit point, retries, fallbacks and the watch over a stream know nothing of translations.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator

import msgspec

from backends.base import (
    Backend,
    BackendError,
    ByteStream,
    Cause,
    Endpoint,
    Header,
    Reply,
    Stage,
)
from backends.sse import is_event_stream
from gateway.dispatch.ability import speaks
from gateway.dispatch.ask import Ask
from gateway.dispatch.verdict import Failure
from gateway.errors import EngineAnswered
from gateway.wire.json_answer import MalformedAnswerError
from gateway.wire.translate import Identity, StreamTranslator, Translation
from gateway.wire.translate.writer import MAX_ANSWER


def translation_for(ask: Ask, backend: Backend) -> Translation | None:
    """`ask` as `backend`, which can serve it, is asked; None for the request as it came."""
    return None if speaks(backend, ask) else ask.as_chat().translation


def asked_endpoint(endpoint: Endpoint) -> Endpoint:
    """Where a translated request goes; an engine in this process counts the tokens of a chat."""
    return endpoint if endpoint is Endpoint.COUNT_TOKENS else Endpoint.CHAT


def translated(reply: Reply, translation: Translation, endpoint: Endpoint) -> Reply:
    """`reply`, to a chat, as one of `endpoint`. An error stays as it is, to be judged so."""
    if not 200 <= reply.status < 300 or endpoint is Endpoint.COUNT_TOKENS:
        return reply
    identity = Identity(uuid.uuid4().hex, int(time.time()))
    body: ByteStream
    if is_event_stream(reply.headers):
        body = TranslatedStream(reply.body, translation.stream(identity))
    else:
        body = TranslatedAnswer(reply.body, translation, identity)
    return Reply(reply.status, _without_length(reply), body)


def in_clients_words(failure: Failure, translation: Translation | None) -> Failure:
    """`failure`, which may name a field of the chat, naming the client's own in its place."""
    error = failure.error
    if translation is None or not isinstance(error, EngineAnswered) or error.param is None:
        return failure
    place = translation.place_of(error.param)
    if place == error.param:
        return failure
    told = EngineAnswered(
        error.status,
        error.message.replace(f"`{error.param}`", f"`{place}`"),
        param=place,
        code=error.code,
        retry_after=error.retry_after,
    )
    return msgspec.structs.replace(failure, error=told)


class TranslatedStream:
    """A chat's stream as another dialect's."""

    def __init__(self, stream: ByteStream, translator: StreamTranslator) -> None:
        self._stream = stream
        self._translator = translator
        self._ended = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._ended:
            try:
                piece = await self._stream.__anext__()
            except StopAsyncIteration:
                self._ended = True
                events = self._translator.end()
            except BackendError:
                events = self._translator.cut()
                if not events:
                    raise
                self._ended = True  # all was said: only the goodbye is missing
            else:
                events = self._translator.feed(piece)
            if events:
                return events
        raise StopAsyncIteration

    async def aclose(self) -> None:
        await self._stream.aclose()


class TranslatedAnswer:
    """A chat's answer in one piece as another dialect's, in one piece as well."""

    def __init__(self, stream: ByteStream, translation: Translation, identity: Identity) -> None:
        self._stream = stream
        self._translation = translation
        self._identity = identity
        self._ended = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._ended:
            raise StopAsyncIteration
        self._ended = True
        body = bytearray()
        async for piece in self._stream:
            body += piece
            if len(body) > MAX_ANSWER:
                raise _malformed(f"the answer is longer than {MAX_ANSWER >> 20} MiB")
        try:
            return self._translation.whole(bytes(body), self._identity)
        except MalformedAnswerError as error:
            raise _malformed(str(error)) from None

    async def aclose(self) -> None:
        await self._stream.aclose()


def _malformed(why: str) -> BackendError:
    return BackendError(Stage.STREAMING, Cause.PROTOCOL, why)


def _without_length(reply: Reply) -> list[Header]:
    return [header for header in reply.headers if header[0] != b"content-length"]

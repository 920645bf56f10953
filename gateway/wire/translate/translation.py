"""One request in another dialect, said as a chat: what is asked, and how the answer is put.

Pure: bytes go in and come out. What a translation is given of the world, an id and the time, is
handed to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import msgspec

from backends.engine_error import EngineError
from backends.malformed import MALFORMED
from backends.sse import EventCutter, EventTooLargeError, events
from gateway.wire.json_answer import MalformedAnswerError
from gateway.wire.translate.chat import read_chat
from gateway.wire.translate.cursor import Cursor
from gateway.wire.translate.places import Names, Said, place_of
from gateway.wire.translate.writer import AnswerWriter, Identity, UntranslatableAnswerError


class Translation(ABC):
    """A request as a chat. `body` is what an engine is asked at `/v1/chat/completions`."""

    names: ClassVar[Names]
    """What a chat's fields are made of."""

    def __init__(self, request: bytes, asked: Cursor) -> None:
        """`asked` is over `request`. Raises `BadRequest`, as `chat` does."""
        self._request = request
        self.body = msgspec.json.encode(self.chat(asked))

    @staticmethod
    @abstractmethod
    def chat(asked: Cursor) -> dict[str, Any]:
        """What is asked, as a chat.

        Raises `BadRequest`; `Unsupported` where another engine may do what this one cannot.
        """

    def place_of(self, param: str) -> str:
        """What the client calls `param`, a field of the chat; see `places`."""
        asked = Cursor.over(self._request)
        return place_of(param, Said("", self.chat(asked), self.names), asked.fields())

    @abstractmethod
    def writer(self, identity: Identity) -> AnswerWriter:
        """Writes the answer of one attempt in the dialect of the request."""

    def stream(self, identity: Identity) -> StreamTranslator:
        """Turns the events of a chat into those of the dialect."""
        return StreamTranslator(self.writer(identity))

    def whole(self, body: bytes, identity: Identity) -> bytes:
        """An answer that is no stream. One that is an error stays as it is, to be judged so.

        Raises `MalformedAnswerError` for what is no chat's answer.
        """
        try:
            said = read_chat(body)
        except MALFORMED as error:
            raise MalformedAnswerError(f"the answer is not valid JSON: {error}") from None
        if said.error:
            return body
        writer = self.writer(identity)
        try:
            writer.add(said)
            return msgspec.json.encode(writer.whole())
        except UntranslatableAnswerError as error:
            raise MalformedAnswerError(str(error)) from None


class StreamTranslator:
    """Follows one stream. What the engine says went wrong comes out as an `error` event.

    That event is for the watch over the stream, which finds an engine's error in any shape and
    hands no client what it says. A stream that breaks off before the engine has said why it ends
    gets no ending here.
    """

    def __init__(self, writer: AnswerWriter) -> None:
        self._writer = writer
        self._cutter = EventCutter()
        self._over = False

    def feed(self, data: bytes) -> bytes:
        """The dialect's events for what has come; empty where there is none yet."""
        if self._over:
            return b""
        try:
            return self._take(self._cutter.feed(data))
        except EventTooLargeError as error:
            return self._broken(str(error))

    def end(self) -> bytes:
        """The last events, once the engine has ended its stream."""
        # The last event may lack its blank line; a torn one does not parse.
        rest = self._cutter.rest
        out = self._take(rest + b"\n\n") if rest.strip() and not self._over else b""
        return out + self.cut()

    def cut(self) -> bytes:
        """The last events of a stream that has come to no end; empty where it was not through."""
        return self._close() if not self._over and self._writer.finished else b""

    def _take(self, block: bytes) -> bytes:
        """The dialect's events for `block`, whole events. Comments alone pass as they are."""
        silent = True
        for name, data, _ in events(block):
            silent = False
            self._event(name, data)
            if self._over:
                break
        return block if silent else self._writer.take()

    def _event(self, name: bytes, data: bytes) -> None:
        if name == b"error":
            self._fail(data)
        elif data == b"[DONE]":
            if self._writer.finished:
                self._finish()
            else:
                self._say("ended its stream without a finish reason")
        else:
            self._chunk(data)

    def _chunk(self, data: bytes) -> None:
        try:
            said = read_chat(data)
        except MALFORMED as error:
            self._say(f"sent a malformed event: {error}")
            return
        if said.error:
            self._fail(data)
            return
        try:
            self._writer.add(said)
        except UntranslatableAnswerError as error:
            self._say(str(error))

    def _finish(self) -> None:
        self._over = True
        try:
            self._writer.end()
        except UntranslatableAnswerError as error:
            self._say(str(error))

    def _close(self) -> bytes:
        self._finish()
        return self._writer.take()

    def _broken(self, why: str) -> bytes:
        self._say(why)
        return self._writer.take()

    def _say(self, why: str) -> None:
        self._fail(msgspec.json.encode({"error": EngineError(why)}))

    def _fail(self, data: bytes) -> None:
        self._over = True
        lines = b"".join(b"data: %s\n" % line for line in data.splitlines())
        self._writer.put(b"event: error\n%s\n" % lines)

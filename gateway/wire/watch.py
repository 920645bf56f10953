"""Follow a streamed answer without changing it: has it said something, is it whole, did it fail?

One watch per dialect. A watch is fed whole events and answers four questions:

- `content`: has something come that a user would see? (the commit point)
- `finished`: did the engine say that the answer is complete?
- `done`: has the dialect's last event come?
- `failure`: did the engine report an error inside the stream?

Every event is parsed, by msgspec, into the few fields that matter: about a microsecond, and
in return a corrupted event is noticed where it happens. Corrupted is what is no JSON: of what is,
clients take much that no specification has, and so does a watch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import msgspec

from backends.base import Endpoint
from backends.engine_error import EngineError, parse_error
from backends.malformed import MALFORMED
from backends.sse import events
from gateway.wire import lenient
from gateway.wire.finish import BROKEN_OFF
from gateway.wire.usage import Usage

_DATA = b"data: "


class StreamWatch(ABC):
    """What one streamed answer has shown so far."""

    ending = b""
    """What the dialect's stream must end with, to be added where an engine forgets it."""

    def __init__(self) -> None:
        self.content = False
        self.pieces = 0
        """Events with text, or with what stands for it: with most engines, one for each token."""
        self.done = False
        self.failure: EngineError | None = None
        self.model = ""
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None
        self.cached_tokens: int | None = None

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether the engine has said, as the dialect says it, that the answer is complete."""

    def feed(self, block: bytes) -> int:
        """Take note of `block`, whole events; returns how much of it is good.

        That is all of it, unless `failure` is set by it: then what stands before the event
        that failed.
        """
        if block.startswith(_DATA) and block.find(b"\n") == len(block) - 2:
            # One event of one line: what nearly every block is, at a third of the price.
            return len(block) if self._sound(b"", block[len(_DATA) : -2]) else 0
        good = 0
        for name, data, end in events(block):
            if not self._sound(name, data):
                return good
            good = end
        return len(block)

    def _sound(self, name: bytes, data: bytes) -> bool:
        try:
            self._event(name, data)
        except MALFORMED as error:
            self.failure = EngineError(f"sent a malformed event: {error}")
        return self.failure is None

    @abstractmethod
    def _event(self, name: bytes, data: bytes) -> None: ...

    def _over(self) -> None:
        """No more comes, says the engine: `[DONE]` means that in every dialect, though only one
        of them has it, and clients stop reading there."""
        if not self.finished:
            self.failure = EngineError("ended its stream without a finish reason")

    def _count(self, usage: Usage | None) -> None:
        if usage is not None:
            # Anthropic counts the prompt in the first event and the answer in the last.
            if usage.prompt:
                self.prompt_tokens = usage.prompt
            if usage.completion is not None:
                self.completion_tokens = usage.completion
            if usage.cached is not None:
                self.cached_tokens = usage.cached


# -- OpenAI chat and completions ----------------------------------------------------------------


class _Delta(msgspec.Struct):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None
    audio: Any = None

    def says_something(self) -> bool:
        return bool(
            self.content
            or self.reasoning_content
            or self.reasoning
            or self.refusal
            or self.tool_calls
            or self.function_call
            or self.audio
        )


class _Choice(msgspec.Struct):
    index: int | None = None
    delta: _Delta | None = None
    text: Any = None
    finish_reason: Any = None


class _Chunk(msgspec.Struct):
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: Usage | None = None
    error: Any = None


_decode_chunk = lenient.decoder(_Chunk)


class ChoicesWatch(StreamWatch):
    """`/v1/chat/completions` and `/v1/completions`."""

    ending = b"data: [DONE]\n\n"

    def __init__(self, choices: int) -> None:
        super().__init__()
        self._expected = choices
        self._begun: set[int] = set()
        self._ended: set[int] = set()

    @property
    def finished(self) -> bool:
        # An engine that ignores `n` says so with its [DONE]: then what has begun must have
        # ended. Without a [DONE] all that was asked for must have come.
        expected = len(self._begun) if self.done else max(self._expected, len(self._begun))
        return 0 < expected <= len(self._ended)

    def _event(self, name: bytes, data: bytes) -> None:
        if data == b"[DONE]":
            self.done = True
            self._over()
            return
        if name == b"error":
            self.failure = parse_error(None, data)
            return
        chunk = _decode_chunk(data)
        if chunk.model:
            self.model = chunk.model
        for choice in chunk.choices or ():
            index = choice.index or 0
            self._begun.add(index)
            if choice.text or (choice.delta is not None and choice.delta.says_something()):
                self.content = True
                self.pieces += 1
            if choice.finish_reason:
                if choice.finish_reason in BROKEN_OFF:
                    self.failure = EngineError("gave up on the answer")
                    return
                # An answer may be empty; that it ended is then the first thing to tell.
                self.content = True
                self._ended.add(index)
        self._count(chunk.usage)
        if chunk.error:
            self.failure = parse_error(None, data)


# -- OpenAI responses ---------------------------------------------------------------------------


class _Response(msgspec.Struct):
    model: str | None = None
    usage: Usage | None = None


class _ResponseEvent(msgspec.Struct):
    type: str = ""
    response: _Response | None = None


_decode_response_event = lenient.decoder(_ResponseEvent)


class ResponsesWatch(StreamWatch):
    """`/v1/responses`."""

    @property
    def finished(self) -> bool:
        return self.done

    def _event(self, name: bytes, data: bytes) -> None:
        if data == b"[DONE]":
            self._over()
            return
        if name == b"error":
            self.failure = parse_error(None, data)
            return
        event = _decode_response_event(data)
        kind = event.type or name.decode("utf-8", "replace")
        if kind.endswith(".delta"):
            self.content = True
            self.pieces += 1
        elif kind.endswith(".done"):
            self.content = True
        if event.response is not None:
            self.model = event.response.model or self.model
            self._count(event.response.usage)
        if kind in ("response.completed", "response.incomplete"):
            self.content = self.done = True
        elif kind in ("error", "response.failed") or not kind:
            self.failure = parse_error(None, data)


# -- Anthropic messages -------------------------------------------------------------------------


class _Message(msgspec.Struct):
    model: str | None = None
    usage: Usage | None = None


class _MessageDelta(msgspec.Struct):
    stop_reason: Any = None


class _MessageEvent(msgspec.Struct):
    type: str = ""
    message: _Message | None = None
    delta: _MessageDelta | None = None
    usage: Usage | None = None


_decode_message_event = lenient.decoder(_MessageEvent)


class MessagesWatch(StreamWatch):
    """`/v1/messages`."""

    ending = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

    def __init__(self) -> None:
        super().__init__()
        self._stop_reason: Any = None

    @property
    def finished(self) -> bool:
        return self._stop_reason is not None

    def _event(self, name: bytes, data: bytes) -> None:
        if data == b"[DONE]":
            self._over()
            return
        if name == b"error":  # llama-server's is flat: no object under `error`
            self.failure = parse_error(None, data)
            return
        event = _decode_message_event(data)
        kind = event.type or name.decode("utf-8", "replace")
        self._count(event.usage)
        if event.message is not None:
            self.model = event.message.model or self.model
            self._count(event.message.usage)
        if kind == "content_block_delta":
            self.content = True
            self.pieces += 1
        elif kind == "message_delta" and event.delta is not None and event.delta.stop_reason:
            self.content = True
            self._stop_reason = event.delta.stop_reason
        elif kind == "message_stop":
            self.done = True
            self._over()
        elif kind == "error" or not kind:
            self.failure = parse_error(None, data)


def watch_for(endpoint: Endpoint, choices: int) -> StreamWatch | None:
    """The watch for a stream of `endpoint` with `choices` answers; None where none streams."""
    if endpoint in (Endpoint.CHAT, Endpoint.COMPLETIONS):
        return ChoicesWatch(choices)
    if endpoint is Endpoint.RESPONSES:
        return ResponsesWatch()
    if endpoint is Endpoint.MESSAGES:
        return MessagesWatch()
    return None

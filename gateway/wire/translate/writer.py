"""What both dialects do with a chat's answer: part by part, each begun, said and closed.

A chat says text, thinking and calls of tools side by side, in one message. The other dialects
have them one after the other. So a piece of another kind than the last closes what was open.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum, auto
from typing import Any

import msgspec

from gateway.wire.finish import BROKEN_OFF
from gateway.wire.translate.chat import Call, ChatAnswer, ChatUsage, Choice, Message

MAX_ANSWER = 64 << 20
"""Characters of an answer that are kept, log-probabilities among them: its last event may have to
repeat them."""


class Part(Enum):
    """What an answer is made of."""

    THINKING = auto()
    TEXT = auto()
    REFUSAL = auto()
    CALL = auto()


class Identity(msgspec.Struct, frozen=True):
    """What an answer needs where its engine does not say it."""

    id: str
    """Unique; letters, digits and the like."""
    created: int
    """Unix seconds."""


class UntranslatableAnswerError(Exception):
    """The engine's answer breaks the rules of a chat; the message says how."""


class AnswerWriter(ABC):
    """Writes one answer: as events, which `take` gives, and as the object they add up to."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.stop_reason: Any = None
        self.usage: ChatUsage | None = None
        self.called = False
        """Whether a tool has been called."""
        self._events: list[bytes] = []
        self._begun = False
        self._open: Part | None = None
        self._call: int | None = None
        """The number of the call that is open, or was last."""
        self._ended_calls: set[int] = set()
        self._size = 0

    @property
    def finished(self) -> bool:
        """Whether the engine has said why the answer ends."""
        return self.finish_reason is not None

    def take(self) -> bytes:
        """The events since the last time."""
        taken = b"".join(self._events)
        self._events.clear()
        return taken

    def put(self, event: bytes) -> None:
        """Add a whole event."""
        self._events.append(event)

    def add(self, said: ChatAnswer) -> None:
        """Take in a chunk, or a whole answer. Raises `UntranslatableAnswerError`."""
        if said.usage is not None:
            self.usage = said.usage
        for choice in said.choices or ():
            if choice.index:
                continue  # one answer was asked for
            if not self._begun:
                self._begun = True
                self.begin(said)
            self._add_choice(choice)
        if self._size > MAX_ANSWER:
            raise UntranslatableAnswerError(f"the answer is longer than {MAX_ANSWER >> 20} MiB")

    def end(self) -> None:
        """Nothing more will come: close what is open, and say that it is over."""
        self._close()
        self.close_answer()

    def whole(self) -> dict[str, Any]:
        """The answer as one object. Raises `UntranslatableAnswerError`."""
        if not self._begun:
            raise UntranslatableAnswerError("the answer has no choices")
        self.finish_reason = self.finish_reason or "stop"
        self.end()
        return self.answer()

    @abstractmethod
    def begin(self, first: ChatAnswer) -> None:
        """The answer begins."""

    @abstractmethod
    def begin_part(self, part: Part) -> None:
        """Thinking, text or a refusal begins."""

    @abstractmethod
    def begin_call(self, call_id: str, name: str) -> None:
        """A call of the tool `name` begins; `call_id` may be empty."""

    @abstractmethod
    def piece(self, part: Part, text: str, logprobs: list[msgspec.Raw]) -> None:
        """More of what is open: `text` is not empty, unless there are log-probabilities.

        Those are as JSON, one for each token.
        """

    @abstractmethod
    def end_part(self, part: Part) -> None:
        """What is open is complete."""

    @abstractmethod
    def close_answer(self) -> None:
        """The answer is complete, and all its parts are closed."""

    @abstractmethod
    def answer(self) -> dict[str, Any]:
        """The object that the events add up to, after `close_answer`."""

    def _add_choice(self, choice: Choice) -> None:
        message = choice.delta or choice.message
        if message is not None:
            logprobs = choice.logprobs.content if choice.logprobs is not None else None
            self._add_message(message, [_as_bytes(one) for one in logprobs or ()])
        if choice.finish_reason:
            if choice.finish_reason in BROKEN_OFF:
                raise UntranslatableAnswerError("gave up on the answer")
            self.finish_reason = choice.finish_reason
            self.stop_reason = choice.stop_reason

    def _add_message(self, message: Message, logprobs: list[msgspec.Raw]) -> None:
        self._say(Part.THINKING, message.thinking, [])
        self._say(Part.TEXT, message.text, logprobs)
        self._say(Part.REFUSAL, message.refusal or "", [])
        for position, call in enumerate(message.tool_calls or ()):
            self._add_call(call, position if call.index is None else call.index)

    def _say(self, part: Part, text: str, logprobs: list[msgspec.Raw]) -> None:
        if not text and not (logprobs and self._open is part):
            return
        if self._open is not part:
            self._close()
            self._open = part
            self.begin_part(part)
        self._size += len(text) + sum(map(len, logprobs))
        self.piece(part, text, logprobs)

    def _add_call(self, call: Call, number: int) -> None:
        name = call.function.name if call.function is not None else None
        arguments = _arguments(call)
        if self._open is not Part.CALL or self._call != number:
            if number in self._ended_calls:
                if arguments:
                    raise UntranslatableAnswerError(f"went on with call {number} after another")
                return
            if not name:
                raise UntranslatableAnswerError("called a tool without saying its name")
            self._close()
            self._open, self._call, self.called = Part.CALL, number, True
            self.begin_call(call.id or "", name)
        if arguments:
            self._size += len(arguments)
            self.piece(Part.CALL, arguments, [])

    def _close(self) -> None:
        part, self._open = self._open, None
        if part is None:
            return
        if part is Part.CALL and self._call is not None:
            self._ended_calls.add(self._call)
        self.end_part(part)


def _as_bytes(value: Any) -> msgspec.Raw:
    """`value` as it is kept: as objects it would take ten times as much memory."""
    return msgspec.Raw(msgspec.json.encode(value))


def _arguments(call: Call) -> str:
    """JSON text; a few engines give the object itself."""
    arguments = call.function.arguments if call.function is not None else None
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return msgspec.json.encode(arguments).decode()


def event(body: dict[str, Any]) -> bytes:
    """An event that is called as its `type`."""
    return b"event: %s\ndata: %s\n\n" % (body["type"].encode(), msgspec.json.encode(body))

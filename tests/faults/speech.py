"""How a scripted engine says "Once upon" in each dialect, piece by piece."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.upstream import (
    DONE,
    ENGINE_MODEL,
    FINISH,
    ROLE,
    Script,
    completion,
    data,
    event,
    reply,
    stream,
    text,
)

SAID = "Once upon"


@dataclass(frozen=True)
class Speech:
    """One answer that is as it should be, in the pieces that a fault is put together from."""

    path: str
    opening: tuple[bytes, ...]
    """Events before any content."""
    say: Callable[[str], bytes]
    """An event with this text."""
    finish: tuple[bytes, ...]
    """Says that the answer is complete."""
    last: bytes
    """What the dialect ends with after that; empty where `finish` is the end."""
    failed: bytes
    """An error in the middle of a stream, as engines of this dialect tell it."""
    whole: Callable[[str], Any]
    """The answer in one piece."""

    @property
    def begun(self) -> tuple[bytes, ...]:
        """Up to the first content."""
        return (*self.opening, self.say("Once"))

    @property
    def ending(self) -> tuple[bytes, ...]:
        return (*self.finish, *([self.last] if self.last else ()))

    @property
    def story(self) -> tuple[bytes, ...]:
        """All of it."""
        return (*self.begun, self.say(" upon"), *self.ending)

    @property
    def good(self) -> Script:
        """The whole stream."""
        return stream(*self.story)

    @property
    def answer(self) -> Script:
        """The whole answer, in one piece."""
        return reply(self.whole(SAID))


CHAT_SPEECH = Speech(
    path="/v1/chat/completions",
    opening=(ROLE,),
    say=text,
    finish=(FINISH,),
    last=DONE,
    failed=data({"error": {"message": "out of memory", "code": 500}}),
    whole=completion,
)


def _choice(content: str, finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "text": content, "logprobs": None, "finish_reason": finish}
    return {
        "id": "c-1",
        "object": "text_completion",
        "created": 1,
        "model": ENGINE_MODEL,
        "choices": [choice],
    }


COMPLETIONS = Speech(
    path="/v1/completions",
    opening=(),
    say=lambda content: data(_choice(content)),
    finish=(data(_choice("", "stop")),),
    last=DONE,
    failed=CHAT_SPEECH.failed,
    whole=lambda content: _choice(content, "stop"),
)


def _response(status: str, content: str | None = None) -> dict[str, Any]:
    part = {"type": "output_text", "text": content, "annotations": []}
    message = {"id": "m-1", "type": "message", "role": "assistant", "status": status}
    return {
        "id": "r-1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": ENGINE_MODEL,
        "output": [] if content is None else [{**message, "content": [part]}],
        "error": None,
    }


RESPONSES = Speech(
    path="/v1/responses",
    opening=(event("response.created", response=_response("in_progress")),),
    say=lambda content: event(
        "response.output_text.delta", item_id="m-1", output_index=0, content_index=0, delta=content
    ),
    finish=(event("response.completed", response=_response("completed", SAID)),),
    last=b"",
    failed=event("error", code="server_error", message="out of memory", param=None),
    whole=lambda content: _response("completed", content),
)


def _message(content: str | None, stop: str | None = None) -> dict[str, Any]:
    return {
        "id": "m-1",
        "type": "message",
        "role": "assistant",
        "model": ENGINE_MODEL,
        "content": [] if content is None else [{"type": "text", "text": content}],
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }


MESSAGES = Speech(
    path="/v1/messages",
    opening=(
        event("message_start", message=_message(None)),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    ),
    say=lambda content: event(
        "content_block_delta", index=0, delta={"type": "text_delta", "text": content}
    ),
    finish=(
        event("content_block_stop", index=0),
        event(
            "message_delta",
            delta={"stop_reason": "end_turn", "stop_sequence": None},
            usage={"output_tokens": 2},
        ),
    ),
    last=event("message_stop"),
    failed=event("error", error={"type": "overloaded_error", "message": "out of memory"}),
    whole=lambda content: _message(content, "end_turn"),
)

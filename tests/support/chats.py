"""Streamed chats as engines write them, and what other dialects make of them."""

from __future__ import annotations

import json
from typing import Any

from gateway.wire.translate import Identity, Translation
from tests.support.answers import events
from tests.support.upstream import DONE, FINISH, ROLE, chunk, data, text

IDENTITY = Identity("fallback", 1234)
USAGE = data(
    {
        "id": "c-1",
        "choices": [],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
    }
)


def call(index: int, arguments: str, name: str | None = None, call_id: str | None = None) -> bytes:
    """A piece of a call of a tool; the first one has a name."""
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    piece: dict[str, object] = {"index": index, "function": function}
    if name is not None:
        piece |= {"id": f"call_{index}" if call_id is None else call_id, "type": "function"}
    return chunk({"tool_calls": [piece]})


TOLD = (ROLE, text("Once"), text(" upon"), FINISH, USAGE, DONE)
CALLED = (
    ROLE,
    chunk({"reasoning_content": "Let me"}),
    chunk({"reasoning_content": " see"}),
    text("Looking. "),
    call(0, "", "f"),
    call(0, '{"a":'),
    call(0, " 1}"),
    call(1, '{"b": "ü"}', "g"),
    chunk({}, finish="tool_calls"),
    USAGE,
    DONE,
)


def translated(translation: Translation, *pieces: bytes, ended: bool = True) -> bytes:
    """What comes out for `pieces`, of a stream that has then `ended`."""
    translator = translation.stream(IDENTITY)
    out = b"".join(translator.feed(piece) for piece in pieces)
    return out + (translator.end() if ended else b"")


def told(translation: Translation, *pieces: bytes) -> list[Any]:
    """The events that come out for `pieces`."""
    return events(translated(translation, *pieces).decode())


def whole(translation: Translation, message: dict[str, Any], **fields: Any) -> Any:
    """What comes out for an answer in one piece."""
    finish = fields.pop("finish_reason", "stop")
    choice = {"index": 0, "message": message, "finish_reason": finish}
    answer = {"id": "chatcmpl-1", "model": "engine-model", "created": 99, "choices": [choice]}
    return json.loads(translation.whole(json.dumps({**answer, **fields}).encode(), IDENTITY))

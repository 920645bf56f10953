"""What every translated request has in common: the parts that a chat asks for in one way only."""

from __future__ import annotations

from typing import Any

from gateway.wire.translate.cursor import Cursor


def finish_request(asked: Cursor, chat: dict[str, Any], *, goes_on: bool) -> dict[str, Any]:
    """`chat` with what goes without saying in the other dialects: one answer, usage in streams.

    `goes_on`: a last message of the assistant's shall be continued, where there is one.
    """
    if (choices := asked.get("n")) is not None and choices.value != 1:
        choices.unsupported("here a request has one answer")
    chat.pop("stream_options", None)
    if chat.get("stream") is True:
        chat["stream_options"] = {"include_usage": True}
    last = chat["messages"][-1] if chat["messages"] else {}
    said = last.get("role") == "assistant" and last.get("content") and "tool_calls" not in last
    if goes_on and said:
        chat.setdefault("continue_final_message", True)
        chat.setdefault("add_generation_prompt", False)
    return chat


def text_or_parts(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """The content of a message: a text where it is one, because every engine takes that."""
    if not parts:
        return ""
    if len(parts) == 1 and parts[0]["type"] == "text":
        text: str = parts[0]["text"]
        return text
    return parts

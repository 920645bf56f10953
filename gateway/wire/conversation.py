"""The beginning of a conversation: what stays the same in its bytes while it grows."""

from __future__ import annotations

from json import JSONDecoder

_HEAD = 256
"""Bytes taken of what is not a list of messages."""
_OPENING = 8
"""Messages looked at in search of the first one by a user."""

_SPACE = " \t\r\n"
_decode = JSONDecoder().raw_decode


def conversation_start(raw: bytes | None) -> bytes | None:
    """Cut the JSON of `messages`, `input` or `prompt` after the first user message.

    A client that adds turns sends the same start again. Only the start is parsed, so the cost
    does not grow with the conversation. A text, or a list of anything else, is cut after its
    first bytes. None where there is nothing.
    """
    if not raw:
        return None
    text = raw.decode("utf-8", "replace")
    end = _end_of_opening(text)
    return raw[:_HEAD] if end is None else text[:end].encode()


def _end_of_opening(text: str) -> int | None:
    """Where the first user message ends; None where `text` is not a list of messages."""
    at = _skip_space(text, 0)
    if text[at : at + 1] != "[":
        return None
    for _ in range(_OPENING):
        try:
            message, at = _decode(text, _skip_space(text, at + 1))
        except (ValueError, RecursionError):
            return None
        if not isinstance(message, dict):
            return None
        if message.get("role") == "user":
            return at
        after = _skip_space(text, at)
        if text[after : after + 1] != ",":
            return at
        at = after
    return at


def _skip_space(text: str, at: int) -> int:
    while text[at : at + 1] in _SPACE and at < len(text):
        at += 1
    return at

"""Messages as chat templates expect them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from backends.inprocess.params import decode_arguments

_PROBE = ("first-part", "second-part")

Message = dict[str, Any]


def for_template(message: Mapping[str, Any], *, takes_parts: bool) -> Message:
    """A message with its content as text, or parts where a template takes those, and the arguments
    of calls as objects; raises `RequestRefused`.
    """
    adapted = dict(message)
    content = message.get("content")
    if isinstance(content, list):
        texts = [part.get("text", part.get("refusal")) for part in content]
        if len(texts) == 1 or not takes_parts:
            adapted["content"] = "\n".join(texts)
        else:
            adapted["content"] = [{"type": "text", "text": text} for text in texts]
    if "reasoning" in message and "reasoning_content" not in message:
        # vLLM's name for it; templates know DeepSeek's.
        adapted["reasoning_content"] = message["reasoning"]
    if message.get("tool_calls"):
        adapted["tool_calls"] = [_call(call) for call in message["tool_calls"]]
    return adapted


def takes_parts(render: Callable[[list[Message]], str]) -> bool:
    """Whether a template reads content that is a list of parts."""
    parts = [{"type": "text", "text": text} for text in _PROBE]
    try:
        text = render([{"role": "user", "content": parts}])
    except Exception:  # a template is a program: it may raise anything
        return False
    return all(part in text for part in _PROBE) and "'type'" not in text


def _call(call: Mapping[str, Any]) -> Message:
    function = call["function"]
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        # Checked when the request was read; but how deep decoding goes is the thread's to say.
        arguments = decode_arguments("messages", arguments)
    return {**call, "function": {**function, "arguments": arguments}}

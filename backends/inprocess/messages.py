"""Messages as chat templates expect them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from backends.inprocess.image_parts import is_image
from backends.inprocess.message_check import decode_arguments

_PROBE = ("first-part", "second-part")

Message = dict[str, Any]
Render = Callable[[list[Message]], str]


class ContentForm(NamedTuple):
    """What of a message's content a template reads."""

    parts: bool
    """A list of parts."""
    texts: bool = True
    """A text."""
    image: str | None = None
    """What stands for an image in a text, where a template takes no parts."""


def for_template(message: Mapping[str, Any], form: ContentForm) -> Message:
    """A message with its content as text, or parts where a template takes those, and the arguments
    of calls as objects; raises `RequestRefused`.
    """
    adapted = dict(message)
    if "content" in message:
        adapted["content"] = _content(message["content"], form)
    if "reasoning" in message and "reasoning_content" not in message:
        # vLLM's name for it; templates know DeepSeek's.
        adapted["reasoning_content"] = message["reasoning"]
    if message.get("tool_calls"):
        adapted["tool_calls"] = [_call(call) for call in message["tool_calls"]]
    return adapted


def content_form(render: Render) -> ContentForm:
    """What a template reads, found out by trying; a text, where it reads nothing that is tried."""
    parts = [{"type": "text", "text": text} for text in _PROBE]
    of_parts = _tried(render, parts)
    takes_parts = all(part in of_parts for part in _PROBE) and "'type'" not in of_parts
    takes_texts = not takes_parts or _PROBE[0] in _tried(render, _PROBE[0])
    return ContentForm(parts=takes_parts, texts=takes_texts)


def _tried(render: Render, content: object) -> str:
    try:
        return render([{"role": "user", "content": content}])
    except Exception:  # a template is a program: it may raise anything
        return ""


def _content(content: Any, form: ContentForm) -> Any:
    """As `form` has it; images are there as parts without their data, for it is elsewhere."""
    if not isinstance(content, list):
        if form.texts:
            return content
        return [] if content is None else [{"type": "text", "text": content}]
    if form.parts and not (form.texts and len(content) == 1 and not is_image(content[0])):
        return [{"type": "image"} if is_image(part) else _text_part(part) for part in content]
    return "\n".join(form.image or "" if is_image(part) else _text(part) for part in content)


def _text_part(part: Mapping[str, Any]) -> Message:
    return {"type": "text", "text": _text(part)}


def _text(part: Mapping[str, Any]) -> str:
    text: str = part.get("text", part.get("refusal"))
    return text


def _call(call: Mapping[str, Any]) -> Message:
    function = call["function"]
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        # Checked when the request was read; but how deep decoding goes is the thread's to say.
        arguments = decode_arguments("messages", arguments)
    return {**call, "function": {**function, "arguments": arguments}}

"""A request of Anthropic's messages, said as a chat.

What both dialects have keeps its name and its value, also what the gateway does not know. What
speaks of Anthropic's own service is left out. What no chat can say is refused, with its name.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.wire.translate.chat_request import finish_request, text_or_parts
from gateway.wire.translate.cursor import Cursor
from gateway.wire.translate.messages_answer import MessagesWriter
from gateway.wire.translate.places import Names, Said
from gateway.wire.translate.translation import Translation
from gateway.wire.translate.writer import AnswerWriter, Identity

_SERVICE = frozenset(
    (
        "cache_control",
        "diagnostics",
        "inference_geo",
        "service_tier",
        "speed",
        "user_profile_id",
        "workspace_id",
    )
)
"""Fields that ask something of Anthropic's service, and nothing of a model."""
_TRANSLATED = frozenset(
    (
        "messages",
        "system",
        "stop_sequences",
        "tools",
        "tool_choice",
        "thinking",
        "metadata",
        "output_config",
        "output_format",
    )
)
_NAMES: Names = {
    "stop": ("stop_sequences",),
    "user": ("metadata.user_id",),
    "max_completion_tokens": ("max_tokens",),
    "parallel_tool_calls": ("tool_choice.disable_parallel_tool_use",),
    "chat_template_kwargs": ("chat_template_kwargs", "thinking"),
    "reasoning_effort": ("output_config.effort",),
    "response_format": ("output_config.format", "output_format"),
    "continue_final_message": ("continue_final_message", "messages"),
}
_IMPOSSIBLE = ("container", "mcp_servers", "context_management")

_THOUGHTS: Names = {"reasoning_content": ("content",)}

_ATTRIBUTION = "x-anthropic-billing-header"
"""What Claude Code begins its system prompt with: a line with a hash of the request, by which no
prompt would ever be found in a cache."""

_TOOL_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_EFFORTS = {"xhigh": "high", "max": "high"}
"""Efforts beyond those that chats have."""


class MessagesTranslation(Translation):
    """A request to `/v1/messages`; or to `/v1/messages/count_tokens`, where the chat is counted."""

    names = _NAMES

    def __init__(self, body: bytes) -> None:
        """Raises `BadRequest`; `Unsupported` where another engine may do what this one cannot."""
        asked = Cursor.over(body)
        super().__init__(body, asked)
        self._model = asked.need("model").text()

    @staticmethod
    def chat(asked: Cursor) -> dict[str, Any]:
        """See `Translation.chat`."""
        return _chat(asked)

    def writer(self, identity: Identity) -> AnswerWriter:
        """See `Translation.writer`."""
        return MessagesWriter(identity, self._model)


def _chat(asked: Cursor) -> dict[str, Any]:
    asked.without(_IMPOSSIBLE, "this model's engine has only chats, which have no such thing")
    chat = {
        name: value
        for name, value in asked.fields().items()
        if name not in _TRANSLATED and name not in _SERVICE
    }
    chat["messages"] = _messages(asked)
    if (stops := asked.get("stop_sequences")) is not None:
        chat["stop"] = [stop.text() for stop in stops.items()]
    if (metadata := asked.get("metadata")) and (user := metadata.get("user_id")) is not None:
        chat["user"] = user.text()
    _add_tools(asked, chat)
    _add_thinking(asked, chat)
    _add_output(asked, chat)
    return finish_request(asked, chat, goes_on=True)


def _messages(asked: Cursor) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    system = asked.get("system")
    if system is not None and (text := _system(system)):
        messages.append(Said(system.path, {"role": "system", "content": text}))
    for turn in asked.need("messages").items():
        role, content = turn.need("role"), turn.need("content")
        match role.text():
            case "user":
                messages += _user(turn.path, content)
            case "assistant":
                messages.append(_assistant(turn.path, content))
            case "system":
                fields = {"role": "system", "content": _system(content)}
                messages.append(Said(turn.path, fields))
            case _:
                role.wrong("must be `user`, `assistant` or `system`")
    return messages


def _blocks(content: Cursor) -> list[Cursor]:
    """The blocks of a message; a text stands for one."""
    if isinstance(content.value, str):
        return [Cursor({"type": "text", "text": content.value}, content.path)]
    return content.items()


def _system(content: Cursor) -> str:
    texts = []
    for block in _blocks(content):
        if block.kind() != "text":
            block.unsupported("a system prompt can be made of text blocks only")
        text = block.need("text").text()
        if not text.startswith(_ATTRIBUTION):
            texts.append(text)
    return "\n\n".join(texts)


def _user(path: str, content: Cursor) -> list[dict[str, Any]]:
    """A message of the user's; results of tools are messages of their own, before it."""
    results, parts = [], []
    for block in _blocks(content):
        if block.kind() == "tool_result":
            results.append(_tool_result(block))
        else:
            parts.append(_part(block))
    if parts or not results:
        return [*results, Said(path, {"role": "user", "content": text_or_parts(parts)})]
    return results


def _tool_result(block: Cursor) -> dict[str, Any]:
    content = block.get("content")
    parts = [_part(one) for one in _blocks(content)] if content is not None else []
    fields = {
        "role": "tool",
        "tool_call_id": block.need("tool_use_id").text(),
        "content": text_or_parts(parts),
    }
    return Said(block.path, fields, {"tool_call_id": ("tool_use_id",)})


def _part(block: Cursor) -> dict[str, Any]:
    match block.kind():
        case "text":
            return Said(block.path, {"type": "text", "text": block.need("text").text()})
        case "image":
            image = {"url": _image_url(block.need("source"))}
            fields = {"type": "image_url", "image_url": image}
            return Said(block.path, fields, {"image_url": ("source",)})
        case "document":
            fields = {"type": "text", "text": _document(block)}
            return Said(block.path, fields, {"text": ("source",)})
        case kind:
            return block.unsupported(f"a chat has no {kind!r} blocks")


def _image_url(source: Cursor) -> str:
    match source.kind():
        case "base64":
            media = source.need("media_type").text()
            return f"data:{media};base64,{source.need('data').text()}"
        case "url":
            return source.need("url").text()
        case kind:
            return source.unsupported(f"an image can come as base64 or url, not as {kind!r}")


def _document(block: Cursor) -> str:
    """A document that is text: its title, what is said about it, and the text itself."""
    source = block.need("source")
    match source.kind():
        case "text":
            text = source.need("data").text()
        case "content":
            text = "\n\n".join(_text_of(one) for one in _blocks(source.need("content")))
        case kind:
            source.unsupported(f"this engine reads no documents: give their text, not {kind!r}")
    about = [found.text() for name in ("title", "context") if (found := block.get(name))]
    return "\n\n".join([*about, text])


def _text_of(block: Cursor) -> str:
    if block.kind() != "text":
        block.unsupported("this engine reads no documents but text")
    return block.need("text").text()


def _assistant(path: str, content: Cursor) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for block in _blocks(content):
        match block.kind():
            case "text":
                parts.append(_part(block))
            case "thinking":
                thoughts.append(block.need("thinking").text())
            case "redacted_thinking":
                pass  # only its maker can read it
            case "tool_use":
                calls.append(_call(block))
            case kind:
                block.unsupported(f"a chat has no {kind!r} blocks in what the assistant says")
    message = Said(path, {"role": "assistant", "content": text_or_parts(parts)}, _THOUGHTS)
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
        message["content"] = message["content"] or None
    return message


def _call(block: Cursor) -> dict[str, Any]:
    given = block.get("input")
    arguments = msgspec.json.encode({} if given is None else given.fields()).decode()
    function = {"name": block.need("name").text(), "arguments": arguments}
    fields = {"id": block.need("id").text(), "type": "function", "function": function}
    return Said(block.path, fields, {"arguments": ("input",)})


def _add_tools(asked: Cursor, chat: dict[str, Any]) -> None:
    if (tools := asked.get("tools")) is not None:
        chat["tools"] = [_tool(tool) for tool in tools.items()]
    choice = asked.get("tool_choice")
    if choice is None:
        return
    match choice.kind():
        case "tool":
            name = choice.need("name").text()
            chat["tool_choice"] = {"type": "function", "function": {"name": name}}
        case kind if kind in _TOOL_CHOICES:
            chat["tool_choice"] = _TOOL_CHOICES[kind]
        case _:
            choice.wrong("must be of type `auto`, `any`, `tool` or `none`")
    if (alone := choice.get("disable_parallel_tool_use")) is not None:
        chat["parallel_tool_calls"] = not alone.value


def _tool(tool: Cursor) -> dict[str, Any]:
    kind = tool.kind("custom")
    if kind != "custom":
        tool.need("type").unsupported(
            f"{kind!r} is a tool of Anthropic's own; this model's engine has none, "
            "only those that the client runs, with an `input_schema`"
        )
    function = {
        "name": tool.need("name").text(),
        "parameters": tool.need("input_schema").fields(),
    }
    for name in ("description", "strict"):
        if (found := tool.get(name)) is not None:
            function[name] = found.value
    fields = {"type": "function", "function": function}
    return Said(tool.path, fields, {"parameters": ("input_schema",)})


def _add_thinking(asked: Cursor, chat: dict[str, Any]) -> None:
    """Whether to think is a template's affair, and the usual name for it there is Qwen's."""
    thinking = asked.get("thinking")
    if thinking is None or thinking.kind() == "adaptive":
        return
    given = asked.get("chat_template_kwargs")
    chat["chat_template_kwargs"] = {
        "enable_thinking": thinking.kind() != "disabled",
        **(given.fields() if given is not None else {}),
    }


def _add_output(asked: Cursor, chat: dict[str, Any]) -> None:
    output = asked.get("output_config")
    wanted = asked.get("output_format")
    if output is not None:
        wanted = output.get("format") or wanted
        if (effort := output.get("effort")) is not None:
            chat["reasoning_effort"] = _EFFORTS.get(effort.text(), effort.text())
    if wanted is not None:
        if wanted.kind() != "json_schema":
            wanted.unsupported("only `json_schema` is known as a format")
        schema = {"name": "answer", "schema": wanted.need("schema").fields(), "strict": True}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}

"""A request of OpenAI's responses, said as a chat.

What both dialects have keeps its name and its value, also what the gateway does not know. What
asks the server to remember anything, or to run tools of its own, is refused, with its name.
"""

from __future__ import annotations

from typing import Any

from gateway.wire.translate.chat_request import finish_request, text_or_parts
from gateway.wire.translate.cursor import Cursor
from gateway.wire.translate.places import Names, Said
from gateway.wire.translate.responses_answer import ResponsesWriter
from gateway.wire.translate.translation import Translation
from gateway.wire.translate.writer import AnswerWriter, Identity

_TRANSLATED = frozenset(
    (
        "input",
        "instructions",
        "max_output_tokens",
        "text",
        "reasoning",
        "tools",
        "tool_choice",
        "include",
        "top_logprobs",
        "store",
        "background",
        "truncation",
        "max_tool_calls",
        "prompt_cache_options",
        "prompt_cache_retention",
        "service_tier",
    )
)
"""Fields that are said otherwise, or that ask for what is so anyway."""
_STATE = ("previous_response_id", "conversation", "prompt")
_IMPOSSIBLE = ("context_management", "moderation", "access_programs", "image")

_OUTPUT: Names = {"content": ("output",), "tool_call_id": ("call_id",)}

_LOGPROBS = "message.output_text.logprobs"
_REPEATED: dict[str, Any] = {
    "instructions": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "temperature": None,
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "reasoning": {"effort": None, "summary": None},
    "text": {"format": {"type": "text"}},
    "top_logprobs": 0,
    "user": None,
}
"""Fields of a request that its response repeats, as they are where the request lacks them."""
_NAMES: Names = {
    "messages": ("input",),
    "max_tokens": ("max_output_tokens",),
    "max_completion_tokens": ("max_output_tokens",),
    "response_format": ("text.format",),
    "reasoning_effort": ("reasoning.effort",),
    "verbosity": ("text.verbosity",),
    "logprobs": ("include", "top_logprobs"),
    "continue_final_message": ("continue_final_message", "input"),
}
_FIXED: dict[str, Any] = {
    "background": False,
    "previous_response_id": None,
    "store": False,
    "truncation": "disabled",
}


class ResponsesTranslation(Translation):
    """A request to `/v1/responses`."""

    names = _NAMES

    def __init__(self, body: bytes) -> None:
        """Raises `BadRequest`; `Unsupported` where another engine may do what this one cannot."""
        asked = Cursor.over(body)
        super().__init__(body, asked)
        given = {name: found.value for name in _REPEATED if (found := asked.get(name))}
        model = asked.need("model").text()
        self._asked = {**_REPEATED, **given, **_FIXED, "model": model}

    @staticmethod
    def chat(asked: Cursor) -> dict[str, Any]:
        """See `Translation.chat`."""
        return _chat(asked)

    def writer(self, identity: Identity) -> AnswerWriter:
        """See `Translation.writer`."""
        return ResponsesWriter(identity, self._asked)


def _chat(asked: Cursor) -> dict[str, Any]:
    _refuse_what_a_chat_lacks(asked)
    chat = {name: value for name, value in asked.fields().items() if name not in _TRANSLATED}
    chat["messages"] = _messages(asked)
    if (limit := asked.get("max_output_tokens")) is not None:
        chat["max_tokens"] = limit.number()
        if chat["max_tokens"] < 1:
            limit.wrong(f"must be at least 1, not {chat['max_tokens']}")
    if (reasoning := asked.get("reasoning")) and (effort := reasoning.get("effort")):
        chat["reasoning_effort"] = effort.text()
    _add_text(asked, chat)
    _add_tools(asked, chat)
    _add_logprobs(asked, chat)
    return finish_request(asked, chat, goes_on=_goes_on(asked))


def _refuse_what_a_chat_lacks(asked: Cursor) -> None:
    asked.without(_STATE, "nothing is kept between requests here: send the conversation as `input`")
    asked.without(_IMPOSSIBLE, "this model's engine has only chats, which have no such thing")
    for name, why in (
        ("store", "no answers are kept here: leave it out, or say false"),
        ("background", "an answer comes while the client waits: leave it out, or say false"),
    ):
        if (found := asked.get(name)) is not None and found.value is not False:
            found.unsupported(why)
    truncation = asked.get("truncation")
    if truncation is not None and truncation.value != "disabled":
        truncation.unsupported("nothing is left out of a conversation here: say `disabled`")


def _messages(asked: Cursor) -> list[Said]:
    messages: list[Said] = []
    if (instructions := asked.get("instructions")) is not None:
        fields = {"role": "system", "content": instructions.text()}
        messages.append(Said(instructions.path, fields))
    given = asked.need("input")
    if isinstance(given.value, str):
        return [*messages, Said(given.path, {"role": "user", "content": given.value})]
    items = given.items()
    if not items:
        given.wrong("is empty: it needs at least one item")
    for item in items:
        _add_item(item, messages)
    for message in messages:
        # Only what holds calls may go without content.
        if message["role"] == "assistant" and "tool_calls" not in message:
            message["content"] = message["content"] or ""
    return messages


def _add_item(item: Cursor, messages: list[Said]) -> None:
    match item.kind("message"):
        case "message":
            _add_message(item, messages)
        case "function_call":
            _turn(item, messages).setdefault("tool_calls", []).append(_call(item))
        case "function_call_output":
            call_id = item.need("call_id").text()
            content = _content(item.need("output"))
            fields = {"role": "tool", "tool_call_id": call_id, "content": content}
            messages.append(Said(item.path, fields, _OUTPUT))
        case "reasoning":
            if thought := _thought(item):
                turn = _new_turn(item, messages)
                turn["reasoning_content"] = thought
        case kind:
            item.unsupported(f"a chat has no {kind!r} items")


def _add_message(item: Cursor, messages: list[Said]) -> None:
    role, content = item.need("role"), _content(item.need("content"))
    match role.text():
        case "user":
            messages.append(Said(item.path, {"role": "user", "content": content}))
        case "assistant":
            turn = _turn(item, messages)
            if turn["content"] is not None or "tool_calls" in turn:
                turn = _new_turn(item, messages)
            turn["content"], turn.path = content, item.path
        case "system" | "developer":
            _add_system(item, content, messages)
        case _:
            role.wrong("must be `user`, `assistant`, `system` or `developer`")


def _add_system(item: Cursor, content: str | list[dict[str, Any]], messages: list[Said]) -> None:
    """`developer` is `system` to most templates, and many have room for one, at the beginning."""
    first = messages[0] if len(messages) == 1 else None
    if first and first["role"] == "system" and isinstance(content, str):
        first["content"] = f"{first['content']}\n\n{content}"
    else:
        messages.append(Said(item.path, {"role": "system", "content": content}))


def _goes_on(asked: Cursor) -> bool:
    """Whether the last item is a message that is not complete yet; a complete one is answered."""
    given = asked.need("input")
    if not isinstance(given.value, list):
        return False
    status = given.items()[-1].get("status")
    return status is not None and status.value in ("in_progress", "incomplete")


def _turn(item: Cursor, messages: list[Said]) -> Said:
    """The assistant's turn that is going on: what it thinks, says and calls is one message."""
    if messages and messages[-1]["role"] == "assistant":
        return messages[-1]
    return _new_turn(item, messages)


def _new_turn(item: Cursor, messages: list[Said]) -> Said:
    messages.append(Said(item.path, {"role": "assistant", "content": None}))
    return messages[-1]


def _call(item: Cursor) -> dict[str, Any]:
    function = {"name": item.need("name").text(), "arguments": item.need("arguments").text()}
    fields = {"id": item.need("call_id").text(), "type": "function", "function": function}
    return Said(item.path, fields, {"id": ("call_id",)})


def _thought(item: Cursor) -> str:
    """What was thought, or its summary; empty where only its maker can read it."""
    for name in ("content", "summary"):
        if (parts := item.get(name)) is not None and parts.items():
            return "".join(part.need("text").text() for part in parts.items())
    return ""


def _content(content: Cursor) -> str | list[dict[str, Any]]:
    if isinstance(content.value, str):
        return content.value
    return text_or_parts([_part(part) for part in content.items()])


def _part(part: Cursor) -> dict[str, Any]:
    match part.kind():
        case "input_text" | "output_text" | "text":
            return Said(part.path, {"type": "text", "text": part.need("text").text()})
        case "refusal":
            text = part.need("refusal").text()
            return Said(part.path, {"type": "text", "text": text}, {"text": ("refusal",)})
        case "input_image":
            return Said(part.path, {"type": "image_url", "image_url": _image(part)})
        case "input_audio":
            audio = part.need("input_audio").fields()
            return Said(part.path, {"type": "input_audio", "input_audio": audio})
        case kind:
            return part.unsupported(f"this engine takes text and images, no {kind!r}")


def _image(part: Cursor) -> dict[str, Any]:
    if (file := part.get("file_id")) is not None:
        file.unsupported("no files are kept here: give the image in `image_url`")
    image = {"url": part.need("image_url").text()}
    if (detail := part.get("detail")) is not None:
        image["detail"] = detail.text()
    return image


def _add_text(asked: Cursor, chat: dict[str, Any]) -> None:
    text = asked.get("text")
    if text is None:
        return
    if (verbosity := text.get("verbosity")) is not None:
        chat["verbosity"] = verbosity.value
    wanted = text.get("format")
    if wanted is None:
        return
    match wanted.kind():
        case "text":
            pass
        case "json_object":
            chat["response_format"] = {"type": "json_object"}
        case "json_schema":
            schema = {
                name: found.value
                for name in ("name", "description", "schema", "strict")
                if (found := wanted.get(name)) is not None
            }
            chat["response_format"] = {"type": "json_schema", "json_schema": schema}
        case _:
            wanted.wrong("must be of type `text`, `json_object` or `json_schema`")


def _add_tools(asked: Cursor, chat: dict[str, Any]) -> None:
    if (tools := asked.get("tools")) is not None:
        chat["tools"] = [_tool(tool) for tool in tools.items()]
    choice = asked.get("tool_choice")
    if choice is None:
        return
    if isinstance(choice.value, str):
        chat["tool_choice"] = choice.value
    elif choice.kind() == "function":
        name = choice.need("name").text()
        chat["tool_choice"] = {"type": "function", "function": {"name": name}}
    else:
        choice.unsupported("a chat can be told `auto`, `none`, `required` or one function")


def _tool(tool: Cursor) -> dict[str, Any]:
    kind = tool.need("type").text()
    if kind != "function":
        tool.need("type").unsupported(
            f"{kind!r} is a tool of the server's; this model's engine has none, "
            "only functions, which the client runs"
        )
    function = {"name": tool.need("name").text()}
    for name in ("description", "parameters", "strict"):
        if (found := tool.get(name)) is not None:
            function[name] = found.value
    return Said(tool.path, {"type": "function", "function": function})


def _add_logprobs(asked: Cursor, chat: dict[str, Any]) -> None:
    include = asked.get("include")
    wanted = include is not None and _LOGPROBS in [one.text() for one in include.items()]
    top = asked.get("top_logprobs")
    if wanted or (top is not None and top.number() > 0):
        chat["logprobs"] = True
        if top is not None:
            chat["top_logprobs"] = top.number()

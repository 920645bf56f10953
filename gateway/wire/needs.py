"""What a request visibly needs of an engine, told from the few fields that were peeked at.

Only what is certain counts: a field of a shape that is unknown here is an engine's to judge, and
one that asks for nothing (`null`, `[]`, `"auto"`) needs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from backends.base import CAPABILITY_OF, Endpoint
from backends.capabilities import Capability
from backends.malformed import MALFORMED
from gateway.wire.peek import Peek, expects_tokens

_OF_ENDPOINT = {endpoint: frozenset({needed}) for endpoint, needed in CAPABILITY_OF.items()}

_FIELD_OF: Mapping[Capability, str] = {
    Capability.TOOLS: "tools",
    Capability.FORCED_TOOLS: "tool_choice",
    Capability.JSON_OBJECT: "response_format",
    Capability.JSON_SCHEMA: "response_format",
    Capability.LOGPROBS: "logprobs",
    Capability.PREFILL: "continue_final_message",
    Capability.N: "n",
    Capability.TOKEN_PROMPTS: "prompt",
    Capability.TOKEN_IDS: "return_token_ids",
    Capability.IMAGES: "messages",
}
_FIELD_OF_RESPONSES = {
    Capability.JSON_OBJECT: "text",
    Capability.JSON_SCHEMA: "text",
    Capability.LOGPROBS: "top_logprobs",
    Capability.PREFILL: "input",
    Capability.IMAGES: "input",
}
_FIELD_OF_MESSAGES = {
    Capability.JSON_SCHEMA: "output_config",
    Capability.PREFILL: "messages",
}

_IMAGE_PART = {
    Endpoint.CHAT: "image_url",
    Endpoint.RESPONSES: "input_image",
    Endpoint.MESSAGES: "image",
}
"""What an image's part is called, by dialect."""
_IMAGE_MARK = {endpoint: f'"{kind}"'.encode() for endpoint, kind in _IMAGE_PART.items()}

_FORMATS = {"json_object": Capability.JSON_OBJECT, "json_schema": Capability.JSON_SCHEMA}
_NOTHING = (b"", b"null", b"false")
_is_no_tools = re.compile(rb"(\[\s*\]|null)?\Z").match
_NOT_FORCED = ("auto", "none")


class _Format(msgspec.Struct):
    type: str = ""


class _Text(msgspec.Struct):
    format: _Format | None = None


class _Choice(msgspec.Struct):
    type: str = ""


class _Turn(msgspec.Struct):
    content: Any = None
    output: Any = None


_decode_format = msgspec.json.Decoder(_Format).decode
_decode_text = msgspec.json.Decoder(_Text).decode
_decode_choice = msgspec.json.Decoder(str | _Choice).decode
_decode_turns = msgspec.json.Decoder(list[_Turn]).decode


def needs(endpoint: Endpoint, peeked: Peek, body: bytes) -> frozenset[Capability]:
    """What `body`, a request to `endpoint`, needs. Never raises."""
    needed = _OF_ENDPOINT[endpoint]
    if (
        peeked.tools
        or peeked.response_format
        or peeked.text
        or peeked.logprobs
        or peeked.continue_final_message
        or peeked.return_token_ids
        or peeked.n is not None
        or peeked.prompt
    ):
        needed = needed.union(_of_fields(endpoint, peeked))
    mark = _IMAGE_MARK.get(endpoint)
    if mark is not None and mark in body and _has_image(endpoint, peeked):
        needed = needed.union({Capability.IMAGES})
    return needed


def field_of(capability: Capability, endpoint: Endpoint) -> str | None:
    """The field of a request to `endpoint` that asks for `capability`; None for the endpoint's."""
    if endpoint is Endpoint.RESPONSES and capability in _FIELD_OF_RESPONSES:
        return _FIELD_OF_RESPONSES[capability]
    if endpoint is Endpoint.MESSAGES and capability in _FIELD_OF_MESSAGES:
        return _FIELD_OF_MESSAGES[capability]
    return _FIELD_OF.get(capability)


def _of_fields(endpoint: Endpoint, peeked: Peek) -> set[Capability]:
    found: set[Capability] = set()
    choice = _tool_choice(peeked.tool_choice)
    # Of a view, because a copy of many tools costs more than all else here.
    if not _is_no_tools(memoryview(peeked.tools)) and choice != "none":
        found.add(Capability.TOOLS)
        if choice and choice not in _NOT_FORCED:
            found.add(Capability.FORCED_TOOLS)
    if (kind := _format(endpoint, peeked)) in _FORMATS:
        found.add(_FORMATS[kind])
    if bytes(peeked.logprobs) not in _NOTHING:
        found.add(Capability.LOGPROBS)
    if bytes(peeked.continue_final_message) not in _NOTHING:
        found.add(Capability.PREFILL)
    if bytes(peeked.return_token_ids) not in _NOTHING:
        found.add(Capability.TOKEN_IDS)
    if (peeked.n or 1) > 1:
        found.add(Capability.N)
    if endpoint is Endpoint.COMPLETIONS and expects_tokens(peeked):
        found.add(Capability.TOKEN_PROMPTS)
    return found


def _tool_choice(raw: msgspec.Raw) -> str:
    """`auto`, `none`, `required`, `any`, or the type of the object that names a tool."""
    try:
        choice = _decode_choice(raw) if raw else ""
    except MALFORMED:
        return ""
    return choice if isinstance(choice, str) else choice.type


def _format(endpoint: Endpoint, peeked: Peek) -> str:
    try:
        if endpoint is Endpoint.RESPONSES:
            text = _decode_text(peeked.text) if peeked.text else _Text()
            return text.format.type if text.format is not None else ""
        return _decode_format(peeked.response_format).type if peeked.response_format else ""
    except MALFORMED:
        return ""


def _has_image(endpoint: Endpoint, peeked: Peek) -> bool:
    """Whether a message has one, or what a tool gave."""
    given = peeked.input if endpoint is Endpoint.RESPONSES else peeked.messages
    try:
        turns = _decode_turns(given)
    except MALFORMED:
        return False
    parts = [part for turn in turns for part in (*_parts(turn.content), *_parts(turn.output))]
    results = [
        one
        for part in parts
        if part.get("type") == "tool_result"
        for one in _parts(part.get("content"))
    ]
    wanted = _IMAGE_PART[endpoint]
    return any(part.get("type") == wanted for part in (*parts, *results))


def _parts(content: Any) -> list[dict[str, Any]]:
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []

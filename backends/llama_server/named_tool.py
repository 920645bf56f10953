"""A tool that is to be called by name, asked for in a way that llama-server understands.

Its chat endpoint knows `tool_choice` as a word only, and takes an object for `auto`, without
saying so. One tool and `required` is the same. Pure: bytes in, bytes out.
"""

from __future__ import annotations

import msgspec

from backends.base import Endpoint, Request, RequestRefused
from backends.malformed import MALFORMED

_FIELD = b'"tool_choice"'


class _Function(msgspec.Struct):
    name: str


class _Tool(msgspec.Struct):
    function: _Function


_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_tool = msgspec.json.Decoder(_Tool).decode
_decode_tools = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.encode


def with_tool_required(request: Request) -> Request:
    """`request`, which offers no other tool than the one it names, if it names one.

    Raises `RequestRefused` where there is no tool of that name. What is malformed is left to the
    engine, which has the words for it.
    """
    if request.endpoint is not Endpoint.CHAT or _FIELD not in request.body:
        return request
    try:
        fields = _decode_fields(request.body)
        if not bytes(fields.get("tool_choice", b"")).startswith(b"{"):
            return request
        name = _decode_tool(fields["tool_choice"]).function.name
        tools = _decode_tools(fields.get("tools", b"[]"))
        named = [tool for tool in tools if _decode_tool(tool).function.name == name]
    except MALFORMED:
        return request
    if not named:
        raise RequestRefused(
            400, f"tool_choice names {name!r}, which is not among tools", param="tool_choice"
        )
    asked = {**fields, "tools": named[:1], "tool_choice": "required"}
    return msgspec.structs.replace(request, body=_encode(asked))

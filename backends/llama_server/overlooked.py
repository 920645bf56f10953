"""What llama-server overlooks without a word: it is asked in another way, or the client is told.

- A tool that is to be called by name: `tool_choice` is a word to it, and an object counts as
  `auto`. One tool and `required` is the same.
- A limit of 0 tokens: it makes one.
- A `json_schema` whose schema is no object: it holds the answer to nothing.
- `tool_choice: required` without tools: it answers with text.
- A `temperature` below 0, a `top_p` or `min_p` that is no share: it takes the border in its place.
- A `stop` that is neither a text nor a list of texts, a `logit_bias` that is neither a list nor
  an object of numbers: it drops them. Its own list, texts for token ids and `false` are its affair.

Pure: bytes in, bytes out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from backends.base import Endpoint, Request, RequestRefused
from backends.malformed import MALFORMED

_MARKS = (
    *(b'"tool_choice"', b"_tokens", b'"json_schema"', b'"logit_bias"', b'"stop"'),
    *(b'"temperature"', b'"top_p"', b'"min_p"'),
)
"""One of them is in every body that is to be looked at."""
_RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0.0, math.inf),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
}
_LIMITS = ("max_tokens", "max_completion_tokens")


class _Function(msgspec.Struct):
    name: str


class _Tool(msgspec.Struct):
    function: _Function


class _Schema(msgspec.Struct):
    schema: Any = None


class _Format(msgspec.Struct):
    type: str = ""
    json_schema: _Schema | None = None


_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_tool = msgspec.json.Decoder(_Tool).decode
_decode_tools = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_format = msgspec.json.Decoder(_Format).decode
_decode = msgspec.json.decode
_encode = msgspec.json.encode
_NULL = msgspec.Raw(b"null")


def not_overlooked(request: Request) -> Request:
    """`request` so that all of it counts; raises `RequestRefused` where it cannot.

    What is malformed is left to the engine, which has the words for it.
    """
    if request.endpoint not in (Endpoint.CHAT, Endpoint.COMPLETIONS):
        return request
    body = request.body
    if not any(mark in body for mark in _MARKS):
        return request
    try:
        fields = _decode_fields(body)
        _refuse_no_tokens(fields)
        _refuse_no_schema(fields)
        _refuse_out_of_range(fields)
        _refuse_no_stop(fields)
        _refuse_no_bias(fields)
        _refuse_no_tools(fields)
        mended = _with_tool_required(fields)
    except MALFORMED:
        return request
    return msgspec.structs.replace(request, body=_encode(fields)) if mended else request


def _refuse_no_tokens(fields: dict[str, msgspec.Raw]) -> None:
    for name in _LIMITS:
        if bytes(fields.get(name, b"")) == b"0":
            message = f"`{name}` must be at least 1, not 0"
            raise RequestRefused(400, message, param=name, code="integer_below_min_value")


def _refuse_no_schema(fields: dict[str, msgspec.Raw]) -> None:
    if "response_format" not in fields:
        return
    form = _decode_format(fields["response_format"])
    schema = form.json_schema.schema if form.json_schema is not None else None
    if form.type == "json_schema" and not isinstance(schema, dict):
        message = "`response_format` of type json_schema needs `json_schema.schema`, an object"
        raise RequestRefused(400, message, param="response_format", code="invalid_value")


def _refuse_out_of_range(fields: dict[str, msgspec.Raw]) -> None:
    for name, (least, most) in _RANGES.items():
        value = _decode(fields.get(name, _NULL))
        if not _is_number(value):
            continue  # the engine says so
        if value < least:
            _refuse(name, f"must be at least {least:g}", "decimal_below_min_value")
        if value > most:
            _refuse(name, f"must be at most {most:g}", "decimal_above_max_value")


def _refuse_no_stop(fields: dict[str, msgspec.Raw]) -> None:
    stop = _decode(fields.get("stop", _NULL))
    stops = stop if isinstance(stop, list) else [] if stop is None else [stop]
    if not all(isinstance(one, str) for one in stops):
        _refuse("stop", "must be a text, or a list of texts", "invalid_type")


def _refuse_no_bias(fields: dict[str, msgspec.Raw]) -> None:
    bias = _decode(fields.get("logit_bias", _NULL))
    if bias is None or isinstance(bias, list):
        return
    if not isinstance(bias, dict):
        _refuse("logit_bias", "must be an object of token ids and numbers", "invalid_type")
    if not all(value is False or _is_number(value) for value in bias.values()):
        _refuse("logit_bias", "must hold numbers only", "invalid_type")


def _refuse_no_tools(fields: dict[str, msgspec.Raw]) -> None:
    required = bytes(fields.get("tool_choice", b"")) == b'"required"'
    if required and not _decode(fields.get("tools", _NULL)):
        _refuse("tool_choice", "is `required`, and there are no `tools`", "invalid_value")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refuse(param: str, what: str, code: str) -> NoReturn:
    raise RequestRefused(400, f"`{param}` {what}", param=param, code=code)


def _with_tool_required(fields: dict[str, msgspec.Raw]) -> bool:
    """Offer no other tool than the one that is named, if one is; whether `fields` have changed."""
    if not bytes(fields.get("tool_choice", b"")).startswith(b"{"):
        return False
    name = _decode_tool(fields["tool_choice"]).function.name
    tools = _decode_tools(fields.get("tools", b"[]"))
    named = [tool for tool in tools if _decode_tool(tool).function.name == name]
    if not named:
        message = f"`tool_choice` names {name!r}, which is not among `tools`"
        raise RequestRefused(400, message, param="tool_choice", code="invalid_value")
    fields["tools"] = msgspec.Raw(_encode(named[:1]))
    fields["tool_choice"] = msgspec.Raw(b'"required"')
    return True

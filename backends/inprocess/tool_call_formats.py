"""The formats in which models write tool calls. Pure.

A format is data: its marks, and how what stands between them is read. What a library knows of
more formats becomes a `ToolFormat` too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from backends.inprocess.constraint import CallShape
from backends.inprocess.tool_call_json import WrittenCall, is_object, parse_json_call

Tools = Sequence[Mapping[str, Any]]
"""What a request offers: OpenAI's `tools`."""
Parse = Callable[[str, Tools], Sequence[WrittenCall]]
"""What stands between the marks to calls, at least one; raises `ValueError` if that is none."""


class ToolFormat(msgspec.Struct, frozen=True):
    """How a model writes tool calls."""

    name: str
    """As `tool_parser` says it in routing.yaml."""
    start: str
    """What a call, or a list of calls, begins with."""
    parse: Parse
    end: str = ""
    """What it ends with; empty where it goes on to the end of the answer, or of its object."""
    json: bool = False
    """A call is a JSON object: its arguments can be told apart while they are written."""
    bare: bool = False
    """A `{` at the beginning of an answer starts a call, too."""
    shape: CallShape | None = None
    """How to write one, where a model can be held to that."""


def tool_names(tools: Tools) -> frozenset[str]:
    """What the functions of `tools` are called."""
    return frozenset(tool["function"]["name"] for tool in tools)


def _json(text: str, tools: Tools) -> Sequence[WrittenCall]:  # noqa: ARG001 — as `Parse` has it
    return (parse_json_call(text),)


def _known_json(text: str, tools: Tools) -> Sequence[WrittenCall]:
    """JSON without a mark in front may be just JSON: there the name has to be one that is known."""
    call = parse_json_call(text)
    if call.name not in tool_names(tools):
        raise ValueError(f"no tool is called {call.name!r}")
    return (call,)


def _deepseek_mark(words: str) -> str:
    """A special token of DeepSeek: full-width bars, and the block that stands for a space."""
    return "<\uff5c" + words.replace(" ", "\u2581") + "\uff5c>"


_CALL, _SEP, _CALL_END = map(_deepseek_mark, ("tool call begin", "tool sep", "tool call end"))
_DEEPSEEK_CALL = re.compile(
    rf"{_CALL}(?:function{_SEP})?(?P<name>[^\n<]+?)\s*"
    rf"(?:{_SEP}|\n```json\n)(?P<arguments>.*?)(?:\n```)?\s*{_CALL_END}",
    re.DOTALL,
)


def _deepseek(text: str, tools: Tools) -> Sequence[WrittenCall]:  # noqa: ARG001 — as above
    """V3 has a type in front of the name and a code fence around the arguments, V3.1 neither."""
    calls = [
        WrittenCall(*found.group("name", "arguments")) for found in _DEEPSEEK_CALL.finditer(text)
    ]
    if not calls or not all(is_object(call.arguments) for call in calls):
        raise ValueError("no tool call")
    return calls


HERMES = ToolFormat(
    "hermes",
    "<tool_call>",
    _json,
    "</tool_call>",
    json=True,
    shape=CallShape("<tool_call>", '\n{"name": "', '", "arguments": ', "}\n</tool_call>"),
)
"""NousResearch's Hermes models, which Qwen and many others share."""
LLAMA3_JSON = ToolFormat(
    "llama3_json",
    "<|python_tag|>",
    _known_json,
    json=True,
    bare=True,
    shape=CallShape("", '{"name": "', '", "parameters": ', "}", separator="; "),
)
"""Llama 3.1 and later: bare objects, with `;` between them."""
DEEPSEEK_V3 = ToolFormat(
    "deepseek_v3",
    _deepseek_mark("tool calls begin"),
    _deepseek,
    _deepseek_mark("tool calls end"),
)
"""DeepSeek V3, R1 and V3.1."""

FORMATS: Mapping[str, ToolFormat] = MappingProxyType(
    {format_.name: format_ for format_ in (HERMES, LLAMA3_JSON, DEEPSEEK_V3)}
)
"""The formats that no library is needed for, by name."""

"""How a model writes tool calls and thinking, as its tokenizer and template show it.

mlx-lm tells the formats apart and reads most of them; its parsers are what a `ToolFormat` needs.
Hermes' and Llama's are our own: calls in JSON can be streamed while they are written.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import mlx_lm.tool_parsers

from backends.inprocess.answer_format import (
    AnswerFormat,
    answer_format,
    chosen_reasoning,
    chosen_tools,
    infer_reasoning,
    infer_tools,
)
from backends.inprocess.failures import said
from backends.inprocess.reasoning import ReasoningFormat
from backends.inprocess.tool_call_formats import (
    HERMES,
    ToolFormat,
    Tools,
    tool_names,
)
from backends.inprocess.tool_call_json import WrittenCall

_HERMES_IN_MLX = "json_tools"


def find_format(tokenizer: Any, *, tool_parser: str, reasoning_parser: str) -> AnswerFormat:
    """What `tokenizer`, mlx-lm's wrapper, and the two options come to.

    An option is `auto`, `none` or a name. Raises `BackendError` for a name that is unknown.
    """
    names = (module.name for module in pkgutil.iter_modules(mlx_lm.tool_parsers.__path__))
    more = {name: partial(_from_library, name) for name in names}
    tools = chosen_tools(tool_parser, partial(_infer_tools, tokenizer), more)
    reasoning = chosen_reasoning(reasoning_parser, partial(_infer_reasoning, tokenizer))
    special = {
        token: added.content
        for token, added in tokenizer.added_tokens_decoder.items()
        if added.special
    }
    return answer_format(tools, reasoning, special)


# ---- tool calls ----


def _infer_tools(tokenizer: Any) -> ToolFormat:
    name = tokenizer.init_kwargs.get("tool_parser_type")
    if name is not None:
        return _from_library(name)
    return infer_tools(_template(tokenizer), tokenizer.get_vocab())


def _from_library(name: str) -> ToolFormat:
    if name == _HERMES_IN_MLX:
        return HERMES
    module = importlib.import_module(f"mlx_lm.tool_parsers.{name}")
    return ToolFormat(
        name, module.tool_call_start, _adapted(module.parse_tool_call), module.tool_call_end
    )


def _adapted(
    parse: Callable[..., dict[str, Any] | list[dict[str, Any]]],
) -> Callable[[str, Tools], Sequence[WrittenCall]]:
    """One of mlx-lm's parsers, kept from raising what it likes.

    Some of them guess. So a call is one only if its function was offered.
    """

    def read(text: str, tools: Tools) -> Sequence[WrittenCall]:
        try:
            found = parse(text, list(tools))
            calls = [_written(call) for call in (found if isinstance(found, list) else [found])]
        except Exception as error:  # a program meets what a model wrote: it may raise anything
            raise ValueError(f"no tool call: {said(error)}") from error
        unknown = {call.name for call in calls} - tool_names(tools)
        if unknown or not calls:
            raise ValueError(f"no tool is called {', '.join(sorted(unknown))}")
        return calls

    return read


def _written(call: dict[str, Any]) -> WrittenCall:
    arguments = call.get("arguments", {})
    if not isinstance(arguments, dict):
        raise TypeError("the arguments are no object")
    text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    text.encode()  # half of a surrogate pair cannot be sent
    return WrittenCall(call["name"], text)


# ---- thinking ----


def _infer_reasoning(tokenizer: Any) -> ReasoningFormat | None:
    if tokenizer.has_thinking:
        return ReasoningFormat(tokenizer.think_start, tokenizer.think_end)
    return infer_reasoning(_template(tokenizer), tokenizer.get_vocab())


def _template(tokenizer: Any) -> str:
    """The chat template; empty where there is none, or where it is a program."""
    template = tokenizer.chat_template
    return template if isinstance(template, str) else ""

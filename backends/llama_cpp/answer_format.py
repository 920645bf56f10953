"""How a GGUF model writes tool calls and thinking, as its template and vocabulary show it."""

from __future__ import annotations

from backends.inprocess.answer_format import (
    AnswerFormat,
    answer_format,
    infer_reasoning,
    infer_tools,
    named_reasoning,
    unknown_format,
)
from backends.inprocess.reasoning import ReasoningFormat
from backends.inprocess.tool_call_formats import FORMATS, ToolFormat
from backends.llama_cpp.vocabulary import Vocabulary


def find_format(
    template: str, vocabulary: Vocabulary, *, tool_parser: str, reasoning_parser: str
) -> AnswerFormat:
    """What the two options come to; each is `auto`, `none` or a name.

    Raises `BackendError` for a name that is unknown.
    """
    tools = _tools(template, vocabulary, tool_parser)
    reasoning = _reasoning(template, vocabulary, reasoning_parser)
    return answer_format(tools, reasoning, vocabulary.special)


def _tools(template: str, vocabulary: Vocabulary, name: str) -> ToolFormat | None:
    if name == "none":
        return None
    if name == "auto":
        return infer_tools(template, vocabulary.named)
    if name not in FORMATS:
        raise unknown_format("tool_parser", name, FORMATS.keys())
    return FORMATS[name]


def _reasoning(template: str, vocabulary: Vocabulary, name: str) -> ReasoningFormat | None:
    if name == "none":
        return None
    if name == "auto":
        return infer_reasoning(template, vocabulary.named)
    return named_reasoning(name)

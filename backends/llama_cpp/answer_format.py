"""How a GGUF model writes tool calls and thinking, as its template and vocabulary show it."""

from __future__ import annotations

from backends.inprocess.answer_format import (
    AnswerFormat,
    answer_format,
    chosen_reasoning,
    chosen_tools,
    infer_reasoning,
    infer_tools,
)
from backends.llama_cpp.vocabulary import Vocabulary


def find_format(
    template: str, vocabulary: Vocabulary, *, tool_parser: str, reasoning_parser: str
) -> AnswerFormat:
    """What the two options come to; each is `auto`, `none` or a name.

    Raises `BackendError` for a name that is unknown.
    """
    tools = chosen_tools(tool_parser, lambda: infer_tools(template, vocabulary.named))
    reasoning = chosen_reasoning(
        reasoning_parser, lambda: infer_reasoning(template, vocabulary.named)
    )
    return answer_format(tools, reasoning, vocabulary.special)

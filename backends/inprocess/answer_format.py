"""How one model writes what is no plain answer: tool calls and thinking. Pure."""

from __future__ import annotations

import msgspec

from backends.inprocess.reasoning import ReasoningFormat
from backends.inprocess.tool_call_formats import HERMES, ToolFormat


class AnswerFormat(msgspec.Struct, frozen=True):
    """What to look for in a model's answers.

    Marks may be special tokens, which are no text elsewhere. `hidden` are the special tokens to
    leave out of an answer; where it is empty, decoding leaves out all of them by itself.
    """

    tools: ToolFormat | None = HERMES
    """None where calls are left as text."""
    reasoning: ReasoningFormat | None = None
    hidden: frozenset[int] = frozenset()
    hidden_with_tools: frozenset[int] = frozenset()
    """The same in answers that may call tools."""

"""How one model writes what is no plain answer: tool calls and thinking. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import msgspec

from backends.base import BackendError
from backends.inprocess.failures import failed
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


def unknown_format(option: str, name: str, known: Iterable[str]) -> BackendError:
    """What to say of an option that names no format."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? It" if near else "it"
    return failed(
        f"{option}: {name!r} is no format that is known here; {hint} "
        f"may be 'auto', 'none', {', '.join(map(repr, names))}"
    )

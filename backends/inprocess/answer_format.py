"""How one model writes what is no plain answer: tool calls and thinking. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Container, Iterable, Mapping
from types import MappingProxyType

import msgspec

from backends.base import BackendError
from backends.inprocess.failures import failed
from backends.inprocess.reasoning import REASONING_FORMATS, ReasoningFormat
from backends.inprocess.tool_call_formats import (
    DEEPSEEK_V3,
    FORMATS,
    HERMES,
    LLAMA3_JSON,
    ToolFormat,
)


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


def infer_tools(template: str, vocabulary: Container[str]) -> ToolFormat:
    """The format of ours that a chat template teaches; Hermes' where nothing speaks against it.

    `vocabulary` has the model's special tokens, as they are spelled.
    """
    if DEEPSEEK_V3.start in template:
        return DEEPSEEK_V3
    taught_bare_json = '"parameters"' in template and HERMES.start not in template
    if taught_bare_json and LLAMA3_JSON.start in vocabulary:
        return LLAMA3_JSON
    return HERMES


def infer_reasoning(template: str, vocabulary: Container[str]) -> ReasoningFormat | None:
    """What a model puts around its thinking, where special tokens or the template show it.

    Never one that is `assumed`: models that do not think have the tokens too, and all that they
    say would be thinking. Whether a template opens the block shows in each prompt.
    """
    for known in REASONING_FORMATS.values():
        if known.start in vocabulary and known.end in vocabulary:
            return msgspec.structs.replace(known, assumed=False)
        if known.start in template and known.end in template:
            return ReasoningFormat(known.start, known.end)
    return None


def chosen_tools(
    option: str,
    infer: Callable[[], ToolFormat],
    more: Mapping[str, Callable[[], ToolFormat]] = MappingProxyType({}),
) -> ToolFormat | None:
    """What `tool_parser` says: `auto`, for which `infer` finds out, `none`, or a name.

    `more` makes the formats that only a library knows, by name. Raises `BackendError`.
    """
    if option == "none":
        return None
    if option == "auto":
        return infer()
    if option in FORMATS:
        return FORMATS[option]
    if option not in more:
        raise unknown_format("tool_parser", option, more.keys() | FORMATS.keys())
    return more[option]()


def chosen_reasoning(
    option: str, infer: Callable[[], ReasoningFormat | None]
) -> ReasoningFormat | None:
    """What `reasoning_parser` says, as `chosen_tools`. Raises `BackendError`."""
    if option == "none":
        return None
    if option == "auto":
        return infer()
    if option not in REASONING_FORMATS:
        raise unknown_format("reasoning_parser", option, REASONING_FORMATS.keys())
    return REASONING_FORMATS[option]


def answer_format(
    tools: ToolFormat | None, reasoning: ReasoningFormat | None, special: Mapping[int, str]
) -> AnswerFormat:
    """For a model whose `special` tokens, by their ids, are left out when answers are decoded."""
    thinking = _in_marks(special, reasoning.marks if reasoning else ())
    calling = _in_marks(special, (tools.start, tools.end) if tools else ())
    everything = frozenset(special)
    return AnswerFormat(
        tools,
        reasoning,
        hidden=everything - thinking if thinking else frozenset(),
        hidden_with_tools=everything - thinking - calling if thinking | calling else frozenset(),
    )


def _in_marks(special: Mapping[int, str], marks: Iterable[str]) -> frozenset[int]:
    """The special tokens that marks are made of."""
    return frozenset(
        token for token, spelled in special.items() if any(spelled in mark for mark in marks)
    )


def unknown_format(option: str, name: str, known: Iterable[str]) -> BackendError:
    """What to say of an option that names no format."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? It" if near else "it"
    return failed(
        f"{option}: {name!r} is no format that is known here; {hint} "
        f"may be 'auto', 'none', {', '.join(map(repr, names))}"
    )

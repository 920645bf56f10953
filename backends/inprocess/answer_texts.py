"""What one request has its answers read with: a `SequenceText` for each. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from backends.inprocess import harmony
from backends.inprocess.constraint import Thinking
from backends.inprocess.harmony import HarmonyParser
from backends.inprocess.params import Chat, Completion
from backends.inprocess.reasoning import ReasoningFormat, ReasoningParser
from backends.inprocess.runtime import Runtime
from backends.inprocess.text import SequenceText
from backends.inprocess.tool_calls import ToolCallParser

_PROMPT_END = 16
"""Tokens of a prompt that may hold a start mark and white space behind it."""


class AnswerTexts:
    """Makes what reads the answers of one request, for a model that writes as `runtime` says.

    A text completion is text only: whoever wrote its prompt wants to see all of it.
    """

    def __init__(self, runtime: Runtime, params: Chat | Completion, *, stream: bool) -> None:
        self._prompts = runtime.prompts
        self._format = runtime.answers
        self._params = params
        self._chat = params if isinstance(params, Chat) else None
        self._stream = stream

    def new(self, index: int, prompt: Sequence[int]) -> SequenceText:
        """For choice `index` of the answer, which goes on from `prompt`."""
        calls = self._tool_calls()
        hidden = self._format.hidden if calls is None else self._format.hidden_with_tools
        return SequenceText(
            index,
            self._prompts.decode_all if hidden else self._prompts.decode,
            stops=self._params.stops,
            tool_calls=calls,
            reasoning=self._reasoning(prompt),
            show_reasoning=self._chat is None or self._chat.include_reasoning is not False,
            hidden=hidden,
        )

    def thinking(self, prompt: Sequence[int]) -> Thinking | None:
        """What may come before the answer that goes on from `prompt`."""
        reasoning = self._format.reasoning
        parser = self._reasoning(prompt)
        if reasoning is None or parser is None:
            return None
        if isinstance(parser, HarmonyParser):
            return Thinking(harmony.THOUGHT, harmony.ANSWER, opened=False)
        return Thinking(reasoning.start, reasoning.end, parser.thinking)

    def _tool_calls(self) -> ToolCallParser | None:
        if self._chat is None or not self._chat.may_call or self._format.tools is None:
            return None
        return ToolCallParser(self._format.tools, self._chat.tools or (), eager=self._stream)

    def _reasoning(self, prompt: Sequence[int]) -> ReasoningParser | HarmonyParser | None:
        reasoning = self._format.reasoning
        if self._chat is None or reasoning is None:
            return None
        end = self._prompts.decode_all(prompt[-_PROMPT_END:]).rstrip()
        if self._chat.continue_final_message:
            return _continued(reasoning, self._chat)
        if end.endswith(reasoning.end):  # the template has closed it: nothing is thought
            return None
        if reasoning.channels:
            return HarmonyParser()
        return ReasoningParser(reasoning, opened=reasoning.opened_by(end))


def _continued(reasoning: ReasoningFormat, chat: Chat) -> ReasoningParser | None:
    """Where the last message is continued, thinking goes on only if it was going on there."""
    content = chat.messages[-1].get("content")
    if isinstance(content, str) and reasoning.left_open(content):
        return ReasoningParser(reasoning, opened=True)
    return None

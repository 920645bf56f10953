"""What an engine answers to a chat: the fields that other dialects have words for.

One struct for a chunk of a stream and for a whole answer, because they differ in one name only.
As elsewhere in `wire`, a field of an unexpected type counts as one that is not there.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.wire import lenient


class Function(msgspec.Struct):
    """Which tool is called, and with what."""

    name: str | None = None
    arguments: Any = None


class Call(msgspec.Struct):
    """A call of a tool, or a piece of one."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Message(msgspec.Struct):
    """A message, or what has been added to it."""

    content: Any = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None

    @property
    def text(self) -> str:
        """The content as one text: a few engines give a list of parts."""
        if isinstance(self.content, list):
            parts = [one.get("text") for one in self.content if isinstance(one, dict)]
            return "".join(part for part in parts if isinstance(part, str))
        return self.content if isinstance(self.content, str) else ""

    @property
    def thinking(self) -> str:
        """What the model thinks aloud; vLLM has had both names, and both at once."""
        return self.reasoning_content or self.reasoning or ""


class Logprobs(msgspec.Struct):
    """How likely the tokens of a text were; a chat's entries are those of a response."""

    content: list[Any] | None = None


class Choice(msgspec.Struct):
    """One of the answers."""

    index: int | None = None
    delta: Message | None = None
    message: Message | None = None
    logprobs: Logprobs | None = None
    finish_reason: str | None = None
    stop_reason: Any = None
    """vLLM's: which of the stop strings it was."""


class PromptDetails(msgspec.Struct):
    """What the prompt's tokens were."""

    cached_tokens: int | None = None


class CompletionDetails(msgspec.Struct):
    """What the answer's tokens were."""

    reasoning_tokens: int | None = None


class ChatUsage(msgspec.Struct):
    """How many tokens it cost, and how many of them were cached, or thinking."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None

    @property
    def cached(self) -> int:
        details = self.prompt_tokens_details
        return 0 if details is None else min(details.cached_tokens or 0, self.prompt_tokens)

    @property
    def thinking(self) -> int:
        details = self.completion_tokens_details
        return 0 if details is None else details.reasoning_tokens or 0


class ChatAnswer(msgspec.Struct):
    """A chunk, or a whole answer."""

    id: str = ""
    model: str = ""
    created: int | None = None
    choices: list[Choice] | None = None
    usage: ChatUsage | None = None
    error: Any = None


read_chat = lenient.decoder(ChatAnswer)
"""From JSON; raises what is in `MALFORMED`."""

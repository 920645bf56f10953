"""What training reads: conversations, and text without roles."""

from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]
"""One message in the shape of the OpenAI chat API."""

Tool = dict[str, Any]
"""One entry of `tools` in the shape of the OpenAI chat API."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages and tools in the shape of the OpenAI chat API; the last message answers."""

    messages: list[Message]
    tools: list[Tool] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Plain:
    """Text without roles, as the completions endpoint gets it."""

    text: str


Sample = Conversation | Plain

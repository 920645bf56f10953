"""How many tokens a request cost, in the words of either dialect."""

from __future__ import annotations

import msgspec


class Usage(msgspec.Struct, frozen=True):
    """OpenAI's names and Anthropic's (and the responses endpoint's) for the same counts."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def prompt(self) -> int | None:
        return self.prompt_tokens if self.prompt_tokens is not None else self.input_tokens

    @property
    def completion(self) -> int | None:
        return self.completion_tokens if self.completion_tokens is not None else self.output_tokens

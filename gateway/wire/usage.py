"""How many tokens a request cost, in the words of either dialect."""

from __future__ import annotations

import msgspec


class _Details(msgspec.Struct, frozen=True):
    cached_tokens: int | None = None


class Usage(msgspec.Struct, frozen=True):
    """OpenAI's names and Anthropic's (and the responses endpoint's) for the same counts."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    """Anthropic's: the tokens of the prompt that came from a cache, which it counts apart."""
    cache_creation_input_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None

    @property
    def prompt(self) -> int | None:
        if self.prompt_tokens is not None or self.input_tokens is None:
            return self.prompt_tokens
        cached = (self.cache_read_input_tokens or 0) + (self.cache_creation_input_tokens or 0)
        return self.input_tokens + cached

    @property
    def completion(self) -> int | None:
        return self.completion_tokens if self.completion_tokens is not None else self.output_tokens

    @property
    def cached(self) -> int | None:
        """Tokens of the prompt that the engine had in its cache; None where it does not say."""
        details = self.prompt_tokens_details or self.input_tokens_details
        return self.cache_read_input_tokens if details is None else details.cached_tokens

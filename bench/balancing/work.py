"""What is asked of an engine: runs of tokens, and how many of these tokens are the prompt."""

from __future__ import annotations

from typing import NamedTuple


class Run(NamedTuple):
    """Tokens that always come together: a system prompt, a turn, an answer."""

    key: int
    """Stands for these tokens behind all that precedes them: equal keys, equal token ids."""
    end: int
    """Tokens from the beginning of the prompt to the end of this run."""


class Work(NamedTuple):
    """One request, as an engine sees it."""

    runs: tuple[Run, ...]
    """The prompt's, and the answer that will be given."""
    prompt_tokens: int

    @property
    def tokens(self) -> int:
        """Of the prompt and the answer."""
        return self.runs[-1].end

    def after(self, generated: int) -> Work:
        """The same with `generated` tokens of the answer already there: what a failover asks."""
        return Work(self.runs, self.prompt_tokens + generated)

"""Log-probabilities of tokens, kept beside the text they belong to. Pure.

Rules of this file:

- A token's log-probability leaves with its text, not before and not after: while a character is
  unfinished or a stop string undecided, it waits too.
- What a stop string cuts off takes the tokens along that begin behind the cut. The token that ends
  a sequence is no text, and has none.

The values are of the model's own distribution, before temperature, penalties, bias and constraint,
as in OpenAI's API, vLLM and llama-server.
"""

from __future__ import annotations

from collections import deque

import msgspec

MAX_TOP = 20
"""How many alternatives may be asked for at each token; OpenAI's limit."""


class TokenLogprobs(msgspec.Struct, frozen=True):
    """What a model thought of one token."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    """The likeliest tokens at its place, likeliest first; as many as were asked for."""
    offset: int = 0
    """Where its text begins in the answer, in characters."""


class _Waiting(msgspec.Struct):
    logprobs: TokenLogprobs
    end: int | None
    """Where its text ends; None while its character is unfinished."""


class LogprobLine:
    """The log-probabilities of one sequence that wait for their text to leave."""

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()
        self._length = 0
        """Characters that have been decoded."""

    def add(self, logprobs: TokenLogprobs, text: str) -> None:
        """Take those of the next token, with which `text` has been decoded."""
        placed = msgspec.structs.replace(logprobs, offset=self._length)
        self._waiting.append(_Waiting(placed, None))
        if text:
            self.decoded(text)

    def decoded(self, text: str) -> None:
        """Text has been decoded: it is that of all tokens that had none yet."""
        self._length += len(text)
        for waiting in reversed(self._waiting):
            if waiting.end is not None:
                break
            waiting.end = self._length

    def take(self, held: int) -> tuple[TokenLogprobs, ...]:
        """Those whose text has left; the last `held` characters decoded have not."""
        gone = self._length - held
        taken = []
        while self._waiting and (end := self._waiting[0].end) is not None and end <= gone:
            taken.append(self._waiting.popleft().logprobs)
        return tuple(taken)

    def close(self, cut: int = 0) -> tuple[TokenLogprobs, ...]:
        """All that are left, now that the last `cut` characters decoded will never leave."""
        kept = self._length - cut
        taken = tuple(
            waiting.logprobs
            for waiting in self._waiting
            if not cut or waiting.logprobs.offset < kept
        )
        self._waiting.clear()
        return taken

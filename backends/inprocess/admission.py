"""How many sequences may run, and how many tokens of KV cache they may come to. Pure.

A sequence reserves what it can come to at most: prompt and `max_tokens`. Less would let more run
at once, but then a batch that grows past the plan would have to stop somebody in the middle of
an answer, or run out of memory, which on Metal ends the whole process. Whoever wants more
sequences at once asks for fewer tokens, or gives `context` or `kv_cache`.
"""

from __future__ import annotations

from backends.inprocess.runtime import KvPlan


class Admission:
    """Counts who runs, at most `max_batch`, and what is reserved for them.

    Without a plan any number of tokens fits.
    """

    def __init__(self, max_batch: int, plan: KvPlan | None = None) -> None:
        self._max_batch = max_batch
        self._plan = plan
        self._reserved: list[int] = []
        """Tokens of each running sequence."""

    @property
    def running(self) -> int:
        """Sequences that have a place."""
        return len(self._reserved)

    @property
    def planned(self) -> int:
        """Tokens there is memory for; 0 without a plan."""
        return self._plan.tokens if self._plan else 0

    @property
    def used(self) -> int:
        """Tokens that are reserved, with what goes to waste beside them."""
        return self._needed(self._reserved)

    def fits(self, tokens: int) -> bool:
        """Whether a sequence of `tokens` may run beside the others; alone it always may."""
        if len(self._reserved) >= self._max_batch:
            return False
        if self._plan is None or not self._reserved:
            return True
        return self._needed([*self._reserved, tokens]) <= self._plan.tokens

    def reserve(self, tokens: int) -> None:
        """Count a sequence in."""
        self._reserved.append(tokens)

    def release(self, tokens: int) -> None:
        """Count a sequence of so many tokens out."""
        self._reserved.remove(tokens)

    def clear(self) -> None:
        """Count all out."""
        self._reserved.clear()

    def _needed(self, sizes: list[int]) -> int:
        if not sizes or self._plan is None:
            return sum(sizes)
        slack = self._plan.slack
        if self._plan.rectangular:
            return len(sizes) * (max(sizes) + slack)
        return sum(sizes) + len(sizes) * slack

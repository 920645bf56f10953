"""The prompt cache of an MLX model: what is taken from it for a prompt, and what is kept in it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from backends.inprocess.prompt_cache import PromptCache
from backends.inprocess.runtime import CacheCounts
from backends.mlx.caches import LayerCaches, can_be_cut, compute, cut, nbytes


class _State(NamedTuple):
    caches: LayerCaches
    tokens: int
    """How many they hold."""


class Beginning(NamedTuple):
    """What need not be computed of a prompt; a list of its own, for the batch goes on with it."""

    caches: LayerCaches | None
    """None where it is nothing."""
    tokens: list[int]


class PromptStates:
    """Caches of sequences that have left the batch, at most `max_bytes` of them."""

    def __init__(self, max_bytes: int) -> None:
        self._cache: PromptCache[_State] = PromptCache(max_bytes)
        self._enabled = max_bytes > 0

    @property
    def counts(self) -> CacheCounts:
        """What has been asked for and found, and what it holds."""
        return self._cache.counts

    def find(self, scope: Hashable, prompt: Sequence[int]) -> Beginning:
        """The longest beginning of `prompt` that has been computed; never all of it."""
        if not self._enabled or (found := self._cache.find(scope, prompt)) is None:
            return Beginning(None, [])
        state, tokens = found
        return Beginning(cut(state.caches, state.tokens - tokens), list(prompt[:tokens]))

    def keep(self, scope: Hashable, tokens: Sequence[int], caches: LayerCaches) -> None:
        """Keep what a sequence of `tokens` has left behind."""
        if not self._enabled or not tokens:
            return
        # Known before they are computed, and nothing is computed that has no room.
        size = nbytes(caches)
        state = _State(caches, len(tokens))
        cuttable = can_be_cut(caches)
        if self._cache.put(scope, tokens, state, nbytes=size, cuttable=cuttable):
            compute(caches)

    def make_room(self, size: int) -> None:
        """Let go of so much that what is left has room beside `size` bytes, within the plan."""
        self._cache.make_room(size)

    def clear(self) -> None:
        """Let go of all."""
        self._cache.clear()

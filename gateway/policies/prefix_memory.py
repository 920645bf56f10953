"""Which prompts a replica has probably computed: their blocks, bounded, the latest kept.

Rules of this file:

- All blocks of a prompt are remembered together. So where one is known, all before it are, and the
  longest known beginning is found by bisection.
- What is forgotten is about what was not asked for the longest. Two generations stand for an order
  by use, at a third of its memory and time: what is used moves into the younger one, and when that
  is full the older one is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS = 8192
"""Blocks to remember of a replica, 0.8 MB: of a million tokens or more, as a large KV cache."""


class PrefixMemory:
    """What one replica is believed to have in its prompt cache."""

    __slots__ = ("_half", "_old", "_young", "seen_at")

    def __init__(self, blocks: int = BLOCKS, now: float = 0.0) -> None:
        """`blocks`: how many to remember, at most, beside those of one prompt."""
        self.seen_at = now
        """When the replica could last be picked."""
        self._half = blocks // 2
        self._young: set[int] = set()
        self._old: set[int] = set()

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def forget(self) -> None:
        """The replica has probably been started anew."""
        self._young, self._old = set(), set()

    def learn(self, blocks: Sequence[int]) -> None:
        """A prompt of these blocks is being computed there."""
        self._young.update(blocks)
        if len(self._young) > self._half:
            self._young, self._old = set(), self._young

    def known(self, blocks: Sequence[int]) -> int:
        """How many of `blocks`, from the first on, are remembered."""
        young, old = self._young, self._old
        if not blocks or (blocks[0] not in young and blocks[0] not in old):
            return 0
        known, unknown = 1, len(blocks)
        while known < unknown:
            middle = (known + unknown) // 2
            if blocks[middle] in young or blocks[middle] in old:
                known = middle + 1
            else:
                unknown = middle
        return known

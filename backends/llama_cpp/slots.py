"""The places in the KV cache, and what of earlier prompts still lies in them. Pure.

Rules of this file:

- A sequence has a slot to itself, with room for a whole context: a cache that is full in the
  middle of an answer cannot happen.
- What a sequence leaves behind stays in its slot. The next one that begins with the same tokens
  gets that slot, and computes only the rest.
"""

from __future__ import annotations

from collections.abc import Sequence


class Slot:
    """One place; `tokens` are those whose keys and values lie in it."""

    __slots__ = ("number", "salt", "tokens")

    def __init__(self, number: int) -> None:
        self.number = number
        """llama.cpp's id of the sequence."""
        self.tokens: list[int] = []
        self.salt: str | None = None
        """Only requests with the same one may see by the time taken what is in it."""


class Slots:
    """Hands out slots."""

    def __init__(self, count: int) -> None:
        self._free = [Slot(number) for number in range(count)]
        """The one least recently used first."""

    @property
    def cached(self) -> int:
        """How many tokens lie in slots that are free."""
        return sum(len(slot.tokens) for slot in self._free)

    def take(self, prompt: Sequence[int], salt: str | None) -> tuple[Slot, int]:
        """A slot for `prompt`, and how many of its tokens lie there already.

        One is always left to compute: its logits are what the answer begins with. Where less than
        half of what lies in the best slot could be used, the oldest is taken: a few words that all
        prompts begin with are no reason to give up a long conversation. Raises `IndexError` when
        none is free.
        """
        tokens = list(prompt)
        best, shared = self._free[0], 0
        for slot in self._free:
            common = _common(slot.tokens, tokens) if slot.salt == salt else 0
            if common > shared and 2 * common >= len(slot.tokens):
                best, shared = slot, common
        self._free.remove(best)
        best.salt = salt
        return best, min(shared, len(prompt) - 1)

    def give_back(self, slot: Slot) -> None:
        """The sequence in it is over."""
        self._free.append(slot)


def _common(ours: list[int], theirs: list[int]) -> int:
    """How many tokens both begin with: by halves, so that lists compare themselves, in C."""
    low, high = 0, min(len(ours), len(theirs))
    while low < high:
        middle = (low + high + 1) // 2
        if ours[low:middle] == theirs[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low

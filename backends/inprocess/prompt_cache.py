"""What has been computed of earlier prompts and answers, by the longest beginning they share. Pure.

Rules of this file:

- It holds at most so many bytes; what has not been used for the longest time goes first.
- What is in it is never changed: who takes a state makes their own of it.
- A prompt is never found whole: its last token must be computed, to say what comes next.

A state that can be cut serves every prompt that begins as it does; one that cannot (a window that
has moved on, a recurrent state) serves only prompts that go on where it ends.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Generic, NamedTuple, TypeVar

from backends.inprocess.prefix_tree import PrefixTree
from backends.inprocess.runtime import CacheCounts

S = TypeVar("S")


class Found(NamedTuple, Generic[S]):
    """A state, and of how many tokens from the beginning it may be used."""

    state: S
    tokens: int


class _Entry(Generic[S]):
    __slots__ = ("cuttable", "key", "nbytes", "state")

    def __init__(self, key: tuple[Hashable, ...], state: S, nbytes: int, cuttable: bool) -> None:
        self.key = key
        self.state = state
        self.nbytes = nbytes
        self.cuttable = cuttable


class PromptCache(Generic[S]):
    """States by the tokens they come from.

    `scope` keeps apart what must not be shared: a salt, an adapter.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._tree: PrefixTree[_Entry[S]] = PrefixTree()
        self._by_use: OrderedDict[int, _Entry[S]] = OrderedDict()
        """By their ids, what was used last at the end."""
        self._nbytes = 0
        self._queries = 0
        self._hits = 0

    @property
    def counts(self) -> CacheCounts:
        """What it has done so far, and what it holds."""
        return CacheCounts(self._queries, self._hits, self._nbytes)

    def __len__(self) -> int:
        """How many states it holds."""
        return len(self._by_use)

    def find(self, scope: Hashable, tokens: Sequence[int]) -> Found[S] | None:
        """The state that spares most of the prompt `tokens`."""
        self._queries += len(tokens)
        key = (scope, *tokens)
        most = len(key) - 1  # the last token is always computed
        entry, length = None, 1
        near = self._tree.nearest(key)
        if near is not None and near[0].cuttable:
            entry, length = near[0], min(near[1], most)
        whole = self._tree.longest_prefix(key[:most])
        if whole is not None and whole[1] > length:
            entry, length = whole
        if entry is None or length <= 1:  # the scope alone
            return None
        self._by_use.move_to_end(id(entry))
        self._hits += length - 1
        return Found(entry.state, length - 1)

    def put(
        self, scope: Hashable, tokens: Sequence[int], state: S, *, nbytes: int, cuttable: bool
    ) -> bool:
        """Keep the state after `tokens`; whether there is room for it at all."""
        if nbytes > self._max_bytes or not tokens:
            return False
        entry = _Entry((scope, *tokens), state, nbytes, cuttable)
        if (before := self._tree.set(entry.key, entry)) is not None:
            self._forget(before)
        self._by_use[id(entry)] = entry
        self._nbytes += nbytes
        if cuttable:
            # What it can be cut to need not be kept beside it.
            for shorter in list(self._tree.prefixes(entry.key)):
                if shorter.cuttable:
                    self._drop(shorter)
        self.make_room(0)
        return True

    def make_room(self, nbytes: int) -> None:
        """Forget states until the rest and `nbytes` are within the bound, or none is left."""
        while self._by_use and self._nbytes + nbytes > self._max_bytes:
            self._drop(next(iter(self._by_use.values())))

    def clear(self) -> None:
        """Forget all states."""
        self._tree = PrefixTree()
        self._by_use.clear()
        self._nbytes = 0

    def _drop(self, entry: _Entry[S]) -> None:
        self._tree.remove(entry.key)
        self._forget(entry)

    def _forget(self, entry: _Entry[S]) -> None:
        del self._by_use[id(entry)]
        self._nbytes -= entry.nbytes

"""A radix tree: values by sequences of tokens, found by what they have in common. Pure.

Rules of this file:

- An edge holds as many tokens as nothing branches within; so the tree has at most two nodes for
  each value, however long the sequences are.
- Every leaf has a value: what is removed takes the nodes with it that only led there.

The structure is Morrison's PATRICIA (1968), over tokens in place of bits.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Generic, TypeVar

V = TypeVar("V")
Key = Sequence[Hashable]

_CHUNK = 256
"""Tokens compared at once: slices compare in C."""


class _Node(Generic[V]):
    __slots__ = ("children", "edge", "length", "parent", "value")

    def __init__(self, parent: _Node[V] | None, edge: tuple[Hashable, ...], length: int) -> None:
        self.parent = parent
        self.edge = edge
        """The tokens that lead here from the parent."""
        self.length = length
        """How many lead here from the root."""
        self.children: dict[Hashable, _Node[V]] = {}
        self.value: V | None = None


class PrefixTree(Generic[V]):
    """Maps sequences of tokens to values, none of which is None."""

    def __init__(self) -> None:
        self._root: _Node[V] = _Node(None, (), 0)

    def set(self, key: Key, value: V) -> V | None:
        """Put `value` at `key`; gives what was there."""
        node, matched = self._descend(key)
        if matched < node.length:
            node = self._split(node, matched)
        if matched < len(key):
            leaf = _Node(node, tuple(key[matched:]), len(key))
            node.children[key[matched]] = leaf
            node = leaf
        before, node.value = node.value, value
        return before

    def remove(self, key: Key) -> None:
        """Take out what is at `key`, if anything is."""
        node, matched = self._descend(key)
        if matched == node.length == len(key):
            node.value = None
            self._prune(node)

    def longest_prefix(self, key: Key) -> tuple[V, int] | None:
        """The value at the longest beginning of `key` that has one, and its length."""
        node, matched = self._descend(key)
        found: _Node[V] | None = node
        while found is not None and (found.value is None or found.length > matched):
            found = found.parent
        return None if found is None or found.value is None else (found.value, found.length)

    def nearest(self, key: Key) -> tuple[V, int] | None:
        """A value whose key has the longest beginning in common with `key`, and how long it is."""
        node, matched = self._descend(key)
        while node.value is None:
            if not node.children:  # the root of an empty tree
                return None
            node = next(iter(node.children.values()))
        return node.value, matched

    def prefixes(self, key: Key) -> Iterator[V]:
        """The values at beginnings of `key`, the longest first, without that at `key` itself."""
        found: _Node[V] | None
        found, matched = self._descend(key)
        while found is not None:
            if found.value is not None and found.length <= matched and found.length < len(key):
                yield found.value
            found = found.parent

    def _descend(self, key: Key) -> tuple[_Node[V], int]:
        """The node where `key` ends or leaves the tree, and how many of its tokens lead there.

        That is less than the node's own length where it leaves within the edge.
        """
        node, matched = self._root, 0
        while matched < len(key):
            child = node.children.get(key[matched])
            if child is None:
                break
            node = child
            matched += _common(node.edge, key, matched)
            if matched < node.length:
                break
        return node, matched

    def _split(self, node: _Node[V], length: int) -> _Node[V]:
        """Put a node into the edge to `node`, where `length` tokens lead."""
        parent = node.parent
        assert parent is not None, "nothing leads to the root"
        at = length - parent.length
        between: _Node[V] = _Node(parent, node.edge[:at], length)
        parent.children[node.edge[0]] = between
        node.parent, node.edge = between, node.edge[at:]
        between.children[node.edge[0]] = node
        return between

    def _prune(self, node: _Node[V]) -> None:
        """Take out nodes that lead to nothing, and join those where nothing branches."""
        while node.parent is not None and node.value is None:
            parent = node.parent
            if not node.children:
                del parent.children[node.edge[0]]
                node = parent
                continue
            if len(node.children) == 1:
                (child,) = node.children.values()
                child.parent, child.edge = parent, node.edge + child.edge
                parent.children[node.edge[0]] = child
            return


def _common(edge: tuple[Hashable, ...], key: Key, start: int) -> int:
    """How many tokens of `edge` stand in `key` from `start` on."""
    size = min(len(edge), len(key) - start)
    for at in range(0, size, _CHUNK):
        end = min(at + _CHUNK, size)
        if edge[at:end] != tuple(key[start + at : start + end]):
            return next(i for i in range(at, end) if edge[i] != key[start + i])
    return size

"""How a name finds what it stands for: exactly, or by the most specific glob.

Checks of the configuration and the routing table share this, so that what `gateway check`
accepts is what a request meets.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")

WILDCARD = "*"


def is_glob(name: str) -> bool:
    """Whether `name` stands for many; `*`, any run of characters, is the only wildcard."""
    return WILDCARD in name


class Glob:
    """A pattern in which `*` stands for any characters, also none. Matching is linear."""

    __slots__ = ("_head", "_middle", "_tail", "literals", "pattern")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        head, *rest = pattern.split(WILDCARD)
        self._head = head
        self._tail = rest[-1] if rest else None
        self._middle = tuple(part for part in rest[:-1] if part)
        self.literals = len(pattern) - pattern.count(WILDCARD)
        """Characters that are not wildcards: the more, the more specific."""

    def matches(self, text: str) -> bool:
        """Whether all of `text` fits."""
        if self._tail is None:
            return text == self._head
        end = len(text) - len(self._tail)
        at = len(self._head)
        if end < at or not text.startswith(self._head) or not text.endswith(self._tail):
            return False
        for part in self._middle:
            found = text.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True

    def __repr__(self) -> str:
        return f"Glob({self.pattern!r})"


class NameIndex(Generic[T]):
    """Names and globs, each with what it stands for. Immutable once built."""

    __slots__ = ("_exact", "_globs")

    def __init__(self, entries: Iterable[tuple[str, T]]) -> None:
        """Take `entries` in order: of two equal names, or equally specific globs, the first."""
        exact: dict[str, T] = {}
        globs: list[tuple[Glob, T]] = []
        for name, value in entries:
            if is_glob(name):
                globs.append((Glob(name), value))
            else:
                exact.setdefault(name, value)
        globs.sort(key=lambda entry: -entry[0].literals)
        self._exact = exact
        self._globs = tuple(globs)

    def find(self, name: str) -> T | None:
        """What `name` stands for: one dict lookup where it is there as it is."""
        found = self._exact.get(name)
        if found is not None:
            return found
        for glob, value in self._globs:
            if glob.matches(name):
                return value
        return None

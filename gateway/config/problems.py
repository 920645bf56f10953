"""What is wrong with a configuration file, said so that it can be mended: where, what, and how."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import TypeVar

import msgspec

T = TypeVar("T")

Path = tuple[str | int, ...]
"""Keys and list positions from the top of the file down to a value."""

_PLAIN_KEY = re.compile(r"[^\s.\[\]\"]+")
_SHOWN = 128
_MOST = 200
"""Problems that are told; the rest is counted."""
_COMPARED = 500
"""Names that a misspelt one is compared with: that is slow."""


class Problem(msgspec.Struct, frozen=True):
    """One mistake. Never quotes a secret."""

    file: str
    path: str
    """Dotted, such as `models.assistant.aliases[0]`; empty for the file as a whole."""
    message: str
    """What was expected and what was found."""
    hint: str = ""
    """What would be right, where that can be told."""
    line: int | None = None
    """From 1; None where the trouble is the file itself."""
    column: int | None = None
    """From 1."""

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        what = f"{self.path}: {self.message}" if self.path else self.message
        return f"{where}: {what}; {self.hint}" if self.hint else f"{where}: {what}"


class ConfigErrors(Exception):
    """Everything that is wrong with a file, in the order of its lines; one per line as text."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class Report:
    """Where everything in a file stands, and what is wrong with it. One per loading."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._positions: dict[Path, tuple[int, int]] = {(): (1, 1)}
        self._names: dict[Path, list[str]] = {}
        self._problems: dict[tuple[Path, Problem], None] = {}
        self.warnings: list[Problem] = []
        """What is odd and no mistake: it may be meant, or be right in a moment."""
        self._wrong: set[Path] = set()
        self._kept: dict[Path, list[int]] = {}

    def place(self, path: Path, line: int, column: int) -> None:
        """Remember that `path` was written at `line`, `column` (from 1)."""
        if path and path not in self._positions:
            self._names.setdefault(path[:-1], []).append(str(path[-1]))
        self._positions[path] = (line, column)

    def keep(self, path: Path, positions: list[int]) -> None:
        """Remember which items of the list at `path` could be built: the others are left out."""
        self._kept[path] = positions

    def numbered(self, path: Path, items: Sequence[T]) -> Iterator[tuple[int, T]]:
        """The built `items` of the list at `path`, each with its position in the file."""
        return zip(self._kept.get(path, range(len(items))), items, strict=True)

    def written(self, path: Path) -> bool:
        """Whether `path` is in the file, right or wrong."""
        return path in self._positions

    def names(self, path: Path) -> list[str]:
        """The keys written in the mapping at `path`, right or wrong."""
        return self._names.get(path, [])

    def suggest(self, word: str, known: Iterable[str]) -> str:
        """Like `did_you_mean`, until there are more problems than are told."""
        return did_you_mean(word, known) if len(self._problems) < _MOST else ""

    def add(self, path: Path, message: str, hint: str = "") -> None:
        """Note a problem at `path`, or, where it is not in the file, at what it would be in."""
        self.add_at(path, *self._position(path), message, hint)

    def warn(self, path: Path, message: str, hint: str = "") -> None:
        """Note what is odd at `path`."""
        line, column = self._position(path)
        self.warnings.append(Problem(self.file, dotted(path), message, hint, line, column))

    def add_at(self, path: Path, line: int, column: int, message: str, hint: str = "") -> None:
        """Note a problem at a position."""
        problem = Problem(self.file, dotted(path), message, hint, line, column)
        self._problems[path, problem] = None
        self._wrong.update(path[:depth] for depth in range(len(path) + 1))

    def _position(self, path: Path) -> tuple[int, int]:
        known = path
        while known not in self._positions:
            known = known[:-1]
        return self._positions[known]

    def within(self, path: Path) -> bool:
        """Whether something at or below `path` is wrong."""
        return path in self._wrong

    def raise_any(self) -> None:
        """Raise `ConfigErrors` if there is a problem."""
        if not self._problems:
            return
        problems = [problem for _, problem in self._problems]
        problems.sort(key=lambda it: (it.line or 0, it.column or 0))
        if len(problems) > _MOST:
            more = Problem(self.file, "", f"and {len(problems) - _MOST} more problems")
            problems = [*problems[:_MOST], more]
        raise ConfigErrors(problems)


def dotted(path: Path) -> str:
    """Write `path` as people do: `models.assistant.aliases[0]`, `models."gpt-4.1"`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        short = part if len(part) <= _SHOWN else part[:_SHOWN] + "…"
        key = short if _PLAIN_KEY.fullmatch(short) else msgspec.json.encode(short).decode()
        text += f".{key}" if text else key
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Name the nearest of `known`, or, failing that, all of them; empty where there are none."""
    names = list(dict.fromkeys(known))[:_COMPARED]
    near = get_close_matches(word[:_SHOWN], names, n=1)
    if near:
        return f'did you mean "{near[0]}"?'
    return f"there is {', '.join(names[:20])}" if names else ""

"""Durations and sizes with units, as people write them: `250ms`, `2s`, `1m30s`; `64KiB`, `32MB`.

A unit is always asked for: a bare `30` means seconds to one reader and milliseconds to the
next. Only `0` needs none.
"""

from __future__ import annotations

import re

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
}
_LONGEST = 30 * 86400
_LARGEST = 1 << 40

DURATION_PATTERN = r"^(0|([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+)$"
SIZE_PATTERN = r"^(0|[0-9]+(\.[0-9]+)? ?([KkMmGg]i?)?[Bb])$"

_DURATION = re.compile(DURATION_PATTERN)
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SIZE = re.compile(SIZE_PATTERN)
_SIZE_PART = re.compile(r"([0-9.]+) ?([a-z]+)")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")


class Duration(float):
    """A span of time in seconds."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read `250ms`, `2s`, `1.5m`, `1m30s`, `1h`, `7d` or `0`. Raises `ValueError`."""
        if len(text) > 64 or not _DURATION.fullmatch(text):
            raise ValueError(_expected("a duration", "250ms, 2s or 10m", text))
        parts = _DURATION_PART.findall(text)
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
        if seconds > _LONGEST:
            raise ValueError("expected a duration of at most 30d")
        return cls(seconds)

    def written(self) -> str:
        """As it would stand in a file: `25ms`, `2s`, `10m`."""
        if self > 60 and self % 60 == 0:
            return f"{self / 60:g}m"
        return f"{self * 1000:g}ms" if 0 < self < 1 else f"{float(self):g}s"


class Timeout(Duration):
    """A duration above zero, for what cannot be given no time at all."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Timeout:
        """Like `Duration.parse`; zero raises `ValueError` too."""
        seconds = Duration.parse(text)
        if seconds <= 0:
            raise ValueError("expected a duration above zero")
        return cls(seconds)


class Size(int):
    """An amount of memory in bytes."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read `512B`, `64KiB`, `32MB`, `1.5GiB` or `0`; KB is 1000. Raises `ValueError`."""
        if len(text) > 64 or not _SIZE.fullmatch(text):
            raise ValueError(_expected("a size", "64KiB, 32MB or 1GiB", text))
        part = _SIZE_PART.match(text.lower())
        size = float(part[1]) * _BYTES[part[2]] if part else 0
        if size > _LARGEST:
            raise ValueError("expected a size of at most 1024GiB")
        return cls(size)

    def written(self) -> str:
        """As it would stand in a file: `32KiB`, `32MiB`."""
        for unit, bytes_ in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
            if self and self % bytes_ == 0:
                return f"{self // bytes_}{unit}"
        return f"{int(self)}B"


def _expected(what: str, examples: str, text: str) -> str:
    """What would be right; the caller knows whether what was found may be shown."""
    if _NUMBER.fullmatch(text):
        return f"expected {what} with its unit, such as {examples}"
    return f"expected {what} such as {examples}"

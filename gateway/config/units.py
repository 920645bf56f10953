"""Durations and sizes with units, as people write them: `250ms`, `2s`, `10m`; `64KiB`, `32MB`."""

from __future__ import annotations


class Duration(float):
    """A span of time in seconds."""


class Size(int):
    """An amount of memory in bytes."""

"""Numbers out of a page of Prometheus metrics. Pure."""

from __future__ import annotations

from collections.abc import Collection


def total(page: bytes, names: Collection[bytes]) -> float | None:
    """The sum of the series called `names`, whatever their labels; None where there is none."""
    found = _readings(page, names)
    return sum(found) if found else None


def mean(page: bytes, names: Collection[bytes]) -> float | None:
    """Their mean, for shares: an engine of several parts has a series for each."""
    found = _readings(page, names)
    return sum(found) / len(found) if found else None


def _readings(page: bytes, names: Collection[bytes]) -> list[float]:
    found: list[float] = []
    for line in page.splitlines():
        name = line.partition(b"{")[0].partition(b" ")[0]
        if name not in names:
            continue
        value = line.rpartition(b"}")[2].split() if b"}" in line else line.split()[1:]
        try:
            found.append(float(value[0]))
        except (IndexError, ValueError):
            continue
    return found

"""What several replicas have to say, each reason once. Pure."""

from __future__ import annotations

from collections.abc import Iterable


def by_reason(said: Iterable[tuple[str, str]]) -> str:
    """Names and their reasons as `a, b: one reason; c: another`, in the order given."""
    grouped: dict[str, dict[str, None]] = {}
    for name, reason in said:
        grouped.setdefault(reason, {})[name] = None
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in grouped.items())

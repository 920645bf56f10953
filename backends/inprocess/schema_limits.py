"""What of a JSON Schema would take too long to compile. Pure.

llguidance bounds nearly all of its work by fuel. Three things it does not: the automaton of
`multipleOf` is as large as the number; whether patterns that must hold together leave anything
takes twice as long for each more; patterns of properties are compared two by two. On one core of a
server `multipleOf: 100000` takes 5 s, 16 patterns at once 1.3 s, 400 patterns of properties over 8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

MAX_MULTIPLE = 10_000
MAX_TOGETHER = 8
"""Patterns, formats and the like in a schema that makes some of them hold together."""
MAX_PATTERN_PROPERTIES = 64
_COSTLY = ("pattern", "format", "multipleOf")


def too_costly(schema: object) -> str | None:
    """Why `schema` is not even tried; None where it may be."""
    costly = names = 0
    together = False
    multiples = 1
    for part in _objects(schema):
        costly += sum(key in part for key in _COSTLY)
        together = together or _together(part)
        if isinstance(of := part.get("patternProperties"), dict):
            names += len(of)
        multiple = part.get("multipleOf")
        if isinstance(multiple, int | float):
            multiples = _steps(multiple) * (multiples if together else 1)
            if multiples > MAX_MULTIPLE:
                return f"multipleOf {multiple} is too large"
    if together and costly > MAX_TOGETHER:
        return f"with allOf, at most {MAX_TOGETHER} patterns and formats are taken, not {costly}"
    if names > MAX_PATTERN_PROPERTIES:
        return f"at most {MAX_PATTERN_PROPERTIES} patternProperties are taken, not {names}"
    return None


def _together(part: Mapping[str, Any]) -> bool:
    """Whether what stands in `part` has to hold beside something else."""
    if "$ref" in part:
        return any(
            key in part for key in (*_COSTLY, "allOf", "anyOf", "oneOf", "properties", "items")
        )
    return "allOf" in part


def _steps(multiple: float) -> int:
    """How many remainders have to be told apart, decimals counted as digits."""
    digits = Decimal(str(multiple)).normalize().as_tuple()
    number = int("".join(map(str, digits.digits)) or "0")
    exponent = digits.exponent
    return number * 10 ** min(exponent, 9) if isinstance(exponent, int) and exponent > 0 else number


def _objects(schema: object) -> Iterator[Mapping[str, Any]]:
    """Every object in `schema`, however deep; names of properties may look like keywords."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)

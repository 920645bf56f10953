"""A value that must never show: not in a repr, a log line, a traceback or an error message."""

from __future__ import annotations

import hmac


class Secret:
    """Holds a string and gives it away only to who calls `reveal`.

    A plain string becomes one with `Secret(text)`, which is also what a decoder's hook does.
    """

    __slots__ = ("_value", "origin")

    def __init__(self, value: str, origin: str = "") -> None:
        self._value = value
        self.origin = origin
        """What it was put together from, to be told to whoever has to mend it: `${NAME}`."""

    def reveal(self) -> str:
        """The string itself, for the one place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

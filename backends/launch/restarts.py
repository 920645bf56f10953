"""How long to wait before an engine that has died is started again. Pure."""

from __future__ import annotations

from collections.abc import Callable

STABLE = 60.0
"""Seconds of service after which a death begins a new count."""
LOOP_AFTER = 4
"""Deaths in a row, none after a stable life, that make a crash loop."""
_FIRST = 0.5
_LONGEST = 8.0
_IN_A_LOOP = 60.0


class Restarts:
    """Counts deaths in a row; exponential backoff with jitter, and slow tries once in a loop."""

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        """`uniform(a, b)` gives a random number between the two."""
        self._uniform = uniform
        self.in_a_row = 0

    @property
    def looping(self) -> bool:
        """Whether it dies again and again."""
        return self.in_a_row >= LOOP_AFTER

    def after_death(self, served: float, *, hopeless: bool = False) -> float:
        """Seconds to wait after a death that followed `served` seconds of service.

        A `hopeless` one is a loop by itself: the next try would come to the same.
        """
        if served >= STABLE:
            self.in_a_row = 0
        self.in_a_row = max(self.in_a_row + 1, LOOP_AFTER if hopeless else 0)
        if self.looping:
            return self._uniform(_IN_A_LOOP / 2, _IN_A_LOOP)
        span = min(_FIRST * 2 ** (self.in_a_row - 1), _LONGEST)
        return self._uniform(span / 2, span)

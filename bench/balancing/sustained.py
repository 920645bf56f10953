"""The highest load that a fleet sustains, found by bisection.

A load is sustained where, over the measured part of the trace,

- TTFT at p95 is at most `TTFT_BOUND`, and
- the tokens of answers completed are at least `SERVED` of those asked for: no queue grows.

That is MLPerf Inference's server scenario (Reddi et al., ISCA 2020): Poisson arrivals, and as the
result the highest rate at which a quantile of the latency keeps to a bound. Two seconds to the
first token are its bound for Llama 2 70B. DistServe (Zhong et al., OSDI 2024) calls the same
goodput: the highest rate at which a share of requests meets its objective.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.balancing.figures import Figures

TTFT_BOUND = 2.0
"""Seconds."""
SERVED = 0.95

_LOWEST, _HIGHEST = 2.0**-10, 2.0**14


def sustains(found: Figures) -> bool:
    """Whether that load is sustained."""
    return found.ttft_p95 <= TTFT_BOUND and found.served >= SERVED


def highest_sustained(
    play: Callable[[float], Figures], guess: float, tolerance: float = 0.01
) -> Figures:
    """The figures at the highest sustained rate, to within `tolerance`, a share of it.

    Raises `ValueError` where no rate is sustained, or every one.
    """
    good, bad = _bracket(play, guess)
    while bad > good.rate * (1 + tolerance):
        middle = (good.rate * bad) ** 0.5
        found = play(middle)
        if sustains(found):
            good = found
        else:
            bad = middle
    return good


def _bracket(play: Callable[[float], Figures], guess: float) -> tuple[Figures, float]:
    """A rate that is sustained, and one that is not, within a factor of `step`."""
    step = 1.25
    found = play(guess)
    if sustains(found):
        while True:
            if found.rate * step > _HIGHEST:
                raise ValueError(f"every rate up to {found.rate:.0f} is sustained")
            higher = play(found.rate * step)
            if not sustains(higher):
                return found, higher.rate
            found = higher
    while True:
        if found.rate / step < _LOWEST:
            raise ValueError(f"no rate down to {found.rate:.4f} is sustained")
        lower = play(found.rate / step)
        if sustains(lower):
            return lower, found.rate
        found = lower

"""Of two replicas taken at random the one that promises the first token sooner.

Its price is the time to the first token, as a peak-EWMA, times the attempts under way and this
one. Two are enough to keep away from the worst, and too few for all to run to the best at once.

Sources: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (IEEE TPDS,
2001); Twitter Finagle, `PeakEwma`, and linkerd, which balance so.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import ClassVar

from gateway.policies.base import C, RequestView
from gateway.policies.by_weight import choose_by_weight


class P2cEwma:
    """Remembers nothing: what the replicas' times are is theirs to know."""

    wants_demand: ClassVar[bool] = False

    def pick(self, candidates: Sequence[C], request: RequestView, rng: Random) -> C:
        count = len(candidates)
        if count == 1:
            return candidates[0]
        first = rng.randrange(count)
        second = rng.randrange(count - 1)
        one, other = candidates[first], candidates[second + (second >= first)]
        now = request.now
        times = one.first_token_time(now), other.first_token_time(now)
        # A time that is not known is no time of zero: then what is under way decides alone.
        mine, its = (1.0, 1.0) if times[0] is None or times[1] is None else (times[0], times[1])
        mine *= (one.outstanding + 1) / one.weight(now)
        its *= (other.outstanding + 1) / other.weight(now)
        if mine == its:
            return choose_by_weight([one, other], now, rng)
        return one if mine < its else other

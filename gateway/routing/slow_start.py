"""How much of its weight a replica has that is new, or back: little first, then all of it.

Envoy's `slow_start`: the share of the window that is over, to the power of one by `aggression`,
and no less than `min_weight_percent`.
Source: Envoy, `envoy.config.cluster.v3.Cluster.SlowStartConfig`.
"""

from __future__ import annotations

from backends.options import SlowStart


def share(slow_start: SlowStart, age: float) -> float:
    """The factor, above 0 and at most 1, `age` seconds after it began."""
    if age >= slow_start.window:
        return 1.0
    over = max(0.0, age) / slow_start.window
    least = slow_start.min_weight_percent / 100
    return max(least, float(over ** (1 / slow_start.aggression)))

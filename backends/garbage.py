"""How often a process of ours that serves looks for garbage."""

from __future__ import annotations

import gc


def calm_collector() -> None:
    """Have the garbage collector look less often, and never at what was there from the start.

    Call it once, when all that stays has been made. A request makes some hundred short-lived
    objects, none of them in a cycle: with Python's own thresholds an eighth of its CPU time goes
    into looking for cycles among them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)

"""Where the gateway's time goes: cProfile around its own command, no switch in the product."""

from __future__ import annotations

import pstats
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.cases import Case

_SHOWN = 20


def profiled(command: Sequence[str], into: Path) -> list[str]:
    """`command`, which must be `python -m …`, run under the profiler."""
    python, dash_m, *rest = command
    if dash_m != "-m":
        raise ValueError("only `python -m …` can be profiled")
    return [python, "-m", "cProfile", "-o", str(into), "-m", *rest]


def tell_profile(path: Path, case: Case, units: int) -> None:
    """Print the functions that took the most time of their own, per unit, and remove the file.

    The profiler's own cost is in the figures: believe their order, not their size.
    """
    stats = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]
    path.unlink()
    rows = sorted(stats.items(), key=lambda item: item[1][2], reverse=True)[:_SHOWN]
    print(f"\n{case.name}, per {case.unit}: own us, total us, calls", file=sys.stderr)
    for (file, line, function), (_, calls, own, total, _callers) in rows:
        where = "/".join(Path(file).parts[-2:])
        figures = f"{own / units * 1e6:9.2f} {total / units * 1e6:9.2f} {calls / units:8.2f}"
        print(f"{figures}  {where}:{line} {function}", file=sys.stderr)

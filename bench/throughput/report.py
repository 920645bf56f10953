"""A table of tokens per second and waits, and whether the targets are kept."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import msgspec

from bench.throughput.client import Round


class Line(msgspec.Struct, frozen=True):
    """One place over all rounds of a case."""

    case: str
    place: str
    tokens_per_second: float
    """The median over the rounds."""
    slowest: float
    fastest: float
    ratio: float
    """Of tokens per second, to the first place: the median over the rounds, each by itself."""
    first_p50_ms: float
    first_p95_ms: float
    gap_p50_ms: float
    gap_p95_ms: float
    cpu_us_per_token: float
    differing: int
    """Answers that are not those of the first place."""


def summarize(
    case: str, place: str, rounds: Sequence[Round], first: Sequence[Round], cpu_seconds: float
) -> Line:
    """`first` are the rounds of the place that the others are compared with."""
    speeds = [each.tokens / each.seconds for each in rounds]
    theirs = [each.tokens / each.seconds for each in first]
    waits = sorted(reply.first * 1000 for each in rounds for reply in each.replies)
    gaps = sorted(gap * 1000 for each in rounds for reply in each.replies for gap in reply.gaps)
    pairs = zip(rounds[0].replies, first[0].replies, strict=True)
    return Line(
        case=case,
        place=place,
        tokens_per_second=median(speeds),
        slowest=min(speeds),
        fastest=max(speeds),
        ratio=median(ours / other for ours, other in zip(speeds, theirs, strict=True)),
        first_p50_ms=_quantile(waits, 0.5),
        first_p95_ms=_quantile(waits, 0.95),
        gap_p50_ms=_quantile(gaps, 0.5),
        gap_p95_ms=_quantile(gaps, 0.95),
        cpu_us_per_token=cpu_seconds * 1e6 / sum(each.tokens for each in rounds),
        differing=sum(ours.text != other.text for ours, other in pairs),
    )


def table(lines: Sequence[Line]) -> str:
    """Lines for people to read."""
    rows = [
        ("case", "place", "tokens/s", "ratio", "first p50/p95 ms", "gap p50/p95 ms", "CPU us/token")
    ]
    rows += [
        (
            line.case,
            line.place,
            f"{line.tokens_per_second:.0f} ({line.slowest:.0f}-{line.fastest:.0f})",
            f"{line.ratio:.2f}",
            f"{line.first_p50_ms:.1f} / {line.first_p95_ms:.1f}",
            f"{line.gap_p50_ms:.1f} / {line.gap_p95_ms:.1f}",
            f"{line.cpu_us_per_token:.0f}",
        )
        for line in lines
    ]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

"""A table of tokens per second and waits, and whether the targets are kept."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import msgspec

from bench.columns import aligned
from bench.throughput.client import Round

OF_MLX_LM, OF_ONE_AT_A_TIME = 1.3, 2.0
"""What the gateway's tokens per second shall be at least, as a multiple of theirs."""


class Used(msgspec.Struct):
    """CPU seconds, over all rounds."""

    total: float = 0.0
    """Of the process and all that it has started."""
    main: float = 0.0
    """Of its main thread."""


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
    ratio_to_alone: float
    """The same, to one conversation at a time."""
    first_p50_ms: float
    first_p95_ms: float
    gap_p50_ms: float
    gap_p95_ms: float
    cpu_us_per_token: float
    loop_us_per_token: float | None
    """Those of them that are the event loop's, where that is a thread by itself."""
    compared: int
    """Greedy answers."""
    differing: int
    """Those of them that are not word for word the first place's. White space in front does not
    count: mlx_lm.server leaves out the space of a first token."""


def summarize(
    case: str,
    place: str,
    rounds: Sequence[Round],
    first: Sequence[Round],
    alone: Sequence[Round],
    used: Used,
    *,
    single_loop: bool,
) -> Line:
    """`first` and `alone` are the rounds of the two places that the others are compared with."""
    speeds = [each.tokens_per_second for each in rounds]
    replies = [reply for each in rounds for reply in each.replies.values()]
    waits = sorted(reply.first * 1000 for reply in replies)
    gaps = sorted(gap * 1000 for reply in replies for gap in reply.gaps)
    pairs = [
        (reply, other.replies[key])
        for each, other in zip(rounds, first, strict=True)
        for key, reply in each.replies.items()
        if reply.greedy
    ]
    tokens = sum(each.tokens for each in rounds)
    return Line(
        case=case,
        place=place,
        tokens_per_second=median(speeds),
        slowest=min(speeds),
        fastest=max(speeds),
        ratio=_ratio(rounds, first),
        ratio_to_alone=_ratio(rounds, alone),
        first_p50_ms=_quantile(waits, 0.5),
        first_p95_ms=_quantile(waits, 0.95),
        gap_p50_ms=_quantile(gaps, 0.5),
        gap_p95_ms=_quantile(gaps, 0.95),
        cpu_us_per_token=used.total * 1e6 / tokens,
        loop_us_per_token=used.main * 1e6 / tokens if single_loop else None,
        compared=len(pairs),
        differing=sum(ours.text.lstrip() != other.text.lstrip() for ours, other in pairs),
    )


def missed(lines: Sequence[Line]) -> list[str]:
    """The targets that the first gateway does not keep; `lines` are those of one case, in order."""
    theirs, line, *_ = lines
    out = []
    if line.ratio < OF_MLX_LM:
        out.append(f"{line.place}: {line.ratio:.2f} of {theirs.place}, not {OF_MLX_LM}")
    if line.first_p95_ms > theirs.first_p95_ms:
        out.append(f"{line.place}: the first token comes later than with {theirs.place}")
    if (ratio := line.ratio_to_alone) < OF_ONE_AT_A_TIME:
        out.append(f"{line.place}: {ratio:.2f} of one at a time, not {OF_ONE_AT_A_TIME}")
    return out


_HEAD = (
    "case",
    "place",
    "tokens/s",
    "ratio",
    "to alone",
    "first p50/p95 ms",
    "gap p50/p95 ms",
    "CPU us/token",
    "its loop",
    "differing",
)


def table(lines: Sequence[Line]) -> str:
    """Lines for people to read."""
    return aligned([_HEAD, *map(_row, lines)])


def _row(line: Line) -> tuple[str, ...]:
    return (
        line.case,
        line.place,
        f"{line.tokens_per_second:.0f} ({line.slowest:.0f}-{line.fastest:.0f})",
        f"{line.ratio:.2f}",
        f"{line.ratio_to_alone:.2f}",
        f"{line.first_p50_ms:.0f} / {line.first_p95_ms:.0f}",
        f"{line.gap_p50_ms:.1f} / {line.gap_p95_ms:.1f}",
        f"{line.cpu_us_per_token:.0f}",
        "" if line.loop_us_per_token is None else f"{line.loop_us_per_token:.0f}",
        f"{line.differing} of {line.compared}",
    )


def _ratio(rounds: Sequence[Round], others: Sequence[Round]) -> float:
    pairs = zip(rounds, others, strict=True)
    return median(each.tokens_per_second / other.tokens_per_second for each, other in pairs)


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

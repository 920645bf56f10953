"""What was measured, as a table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import msgspec

from bench.cases import Case
from bench.columns import aligned
from bench.measure import Round


class Spread(msgspec.Struct, frozen=True):
    """Several rounds' figures of one thing."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.1f} ({self.low:.1f}-{self.high:.1f})"


class Line(msgspec.Struct, frozen=True):
    """One case at one place, over all rounds."""

    case: str
    place: str
    unit: str
    target: float | None
    rounds: int
    units: int
    errors: int
    error: str
    cpu_us: Spread
    instructions: Spread | None
    upstream_cpu_us: float
    load_cpu_us: float
    units_per_second: float
    p50_ms: float
    p99_ms: float
    pieces_per_chunk: float
    rss_mb: float


def summarize(case: Case, rounds: Sequence[Round]) -> Line:
    """One line of the report from all rounds of a case at one place."""
    latencies = sorted(each for done in rounds for each in done.result.latencies) or [0.0]
    chunks = sum(done.result.chunks for done in rounds)
    counted = [done.instructions for done in rounds if done.instructions is not None]
    return Line(
        case=case.name,
        place=rounds[0].place,
        unit=case.unit.value,
        target=case.target,
        rounds=len(rounds),
        units=sum(done.units for done in rounds),
        errors=sum(done.result.errors for done in rounds),
        error=next((done.result.error for done in rounds if done.result.error), ""),
        cpu_us=_spread([done.cpu_us for done in rounds]),
        instructions=_spread(counted) if counted else None,
        upstream_cpu_us=median(done.upstream_cpu_us for done in rounds),
        load_cpu_us=median(done.load_cpu_us for done in rounds),
        units_per_second=median(done.units / done.result.seconds for done in rounds),
        p50_ms=latencies[len(latencies) // 2] * 1e3,
        p99_ms=latencies[len(latencies) * 99 // 100] * 1e3,
        pieces_per_chunk=sum(done.result.pieces for done in rounds) / chunks if chunks else 0.0,
        rss_mb=max(done.rss_mb for done in rounds),
    )


def table(lines: Sequence[Line]) -> str:
    """The lines in columns."""
    heads = (
        "case", "place", "unit", "CPU us/unit", "target", "instr/unit", "units/s", "p50 ms",
        "p99 ms", "reads/chunk", "RSS MB", "errors", "engine us", "load us",
    )  # fmt: skip
    return aligned([heads, *map(_row, lines)])


def _row(line: Line) -> tuple[str, ...]:
    measured = line.place != "direct"
    return (
        line.case,
        line.place,
        line.unit,
        str(line.cpu_us) if measured else "-",
        f"{line.target:.0f}" if measured and line.target is not None else "-",
        f"{line.instructions.median:.0f}" if line.instructions else "-",
        f"{line.units_per_second:.0f}",
        f"{line.p50_ms:.2f}",
        f"{line.p99_ms:.2f}",
        f"{line.pieces_per_chunk:.2f}" if line.pieces_per_chunk else "-",
        f"{line.rss_mb:.0f}" if measured else "-",
        str(line.errors),
        f"{line.upstream_cpu_us:.1f}",
        f"{line.load_cpu_us:.1f}",
    )


def _spread(figures: Sequence[float]) -> Spread:
    return Spread(median(figures), min(figures), max(figures))

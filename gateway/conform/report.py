"""What came of it all: a table to read, and JSON for programs. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.conform.agreement import Agreement
from gateway.conform.finding import Finding, Outcome


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All findings, in the order of the checks, and how the replicas agree."""

    findings: tuple[Finding, ...]
    agreements: tuple[Agreement, ...] = ()
    agree: float = 0.0
    """The share that every two replicas must say alike."""

    @property
    def broken(self) -> list[str]:
        """A line for each broken promise."""
        lines = [
            f"{one.target}: {one.check}: {one.detail}"
            for one in self.findings
            if one.outcome is Outcome.BROKEN
        ]
        return lines + [
            f"{one.one} and {one.other}: {one.share:.1%} of {one.unit} agree, not {self.agree:.0%}"
            for one in self.agreements
            if one.share < self.agree
        ]


def table(report: Report) -> str:
    """A row for each check and a column for each replica, then what there is to say of them."""
    names = list(dict.fromkeys(one.target for one in report.findings))
    checks = list(dict.fromkeys(one.check for one in report.findings))
    found = {(one.check, one.target): one for one in report.findings}
    cells = [[_cell(found.get((check, name))) for name in names] for check in checks]
    rows = [["", *names], *([check, *row] for check, row in zip(checks, cells, strict=True))]
    return "\n\n".join(filter(None, [_aligned(rows), _agreements(report), _details(report)]))


def _cell(finding: Finding | None) -> str:
    if finding is None:
        return "-"
    measured = finding.outcome is Outcome.KEPT and finding.detail
    return measured or finding.outcome


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _agreements(report: Report) -> str:
    return "\n".join(
        f"{one.one} and {one.other}: {one.identical} of {one.prompts} greedy answers are "
        f"identical, {one.share:.1%} of {one.unit} agree"
        for one in report.agreements
    )


def _details(report: Report) -> str:
    return "\n".join(
        f"{one.outcome}: {one.target}: {one.check}: {one.detail}"
        for one in report.findings
        if one.detail and one.outcome is not Outcome.KEPT
    )

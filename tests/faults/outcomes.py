"""What may come of a request whose engine misbehaves: the words in which the table is written."""

from __future__ import annotations

from dataclasses import dataclass

BACKOFF = 0.02
"""Seconds that the gateway is told to leave a replica alone before it asks it again."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What client and engine see."""

    asked: int | None
    """How often the engine at fault was asked; None where that depends."""
    tries: int | None = None
    """What the gateway counts, where that is not what the engines saw."""
    gap: float = BACKOFF
    """The least seconds between two requests to the engine at fault, by its own clock."""


@dataclass(frozen=True, kw_only=True)
class Saved(Outcome):
    """Another engine has answered: the client sees no trace of the fault."""

    asked: int | None = 1


@dataclass(frozen=True, kw_only=True)
class Own(Outcome):
    """The engine at fault has answered after all, and what it said is whole."""

    asked: int | None = 1


@dataclass(frozen=True, kw_only=True)
class Told(Outcome):
    """An error in place of an answer."""

    status: int
    asked: int | None = 3
    retry_after: str | None = None


@dataclass(frozen=True, kw_only=True)
class Broken(Outcome):
    """What came was true; then there is an error, and no end as if the answer were whole."""

    asked: int | None = 1
    cut: bool = False
    """The HTTP answer itself breaks off: it does not stream, and is too long to be held back."""


@dataclass(frozen=True, kw_only=True)
class WentOn(Outcome):
    """Another engine has gone on in the middle of the answer: the client sees no trace of that."""

    asked: int | None = 1


@dataclass(frozen=True, kw_only=True)
class Cells:
    """One row of the table. Each house has its cell: a missing one is a `TypeError`."""

    one: Outcome
    """One replica and no fallback."""
    two: Outcome
    """Two replicas, of which the one at fault is asked first."""
    fallback: Outcome
    """One replica, and a fallback model on another engine."""


@dataclass(frozen=True)
class NoCells:
    """A row that makes no sense, and why."""

    because: str


def before_content(status: int, asked: int = 3, tries: int | None = None) -> Cells:
    """It fails before anything has reached the client, and would fail again."""
    more = None if tries is None else tries + 1
    return Cells(
        one=Told(status=status, asked=asked, tries=tries),
        two=Saved(asked=min(asked, 1), tries=None if tries is None else 2),
        fallback=Saved(asked=asked, tries=more),
    )


BEFORE = before_content(502)
MISCONFIGURED = before_content(502, asked=1)
"""It refuses the gateway: to ask it the same again is no help."""
SILENT = Cells(one=Told(status=504, asked=1), two=Saved(), fallback=Saved())
"""No first token: the same replica is not asked the same again."""
OUT_OF_TIME = Cells(
    one=Told(status=504, asked=1), two=Told(status=504, asked=1), fallback=Told(status=504, asked=1)
)
"""An answer in one piece has only the time of the whole request; then nobody else has any."""
MID_STREAM = Cells(one=Broken(), two=WentOn(), fallback=Broken())
HARMLESS = Cells(one=Own(), two=Own(), fallback=Own())
ONCE = Cells(one=Own(asked=2), two=Saved(), fallback=Own(asked=2))
"""It fails one time."""

"""What one answer is worth, beside the one that an undisturbed engine gave.

Pure. An error is honest where it is told as one and all that came before it was true.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Right(msgspec.Struct, frozen=True):
    """The answer of an undisturbed engine."""

    text: str
    finish: str
    tokens: int


class Heard(msgspec.Struct):
    """What a client has heard."""

    status: int = 0
    begun: bool = False
    text: str = ""
    finish: str | None = None
    done: bool = False
    """It was told that this is all."""
    error: str | None = None
    """What the gateway said went wrong."""
    cut: str | None = None
    """How the connection broke."""
    tokens: int | None = None
    odd: str | None = None
    """What no client's library would take."""
    hung: bool = False
    """It was still waiting when its deadline had long been over."""


class Verdict(StrEnum):
    """How a request ended."""

    RIGHT = "right"
    REFUSED = "refused"
    """An error in place of an answer."""
    BROKEN = "broken off, with an error"
    WRONG = "WRONG"
    """Passed off as right, or with wrong text before its error."""
    TRUNCATED = "TRUNCATED"
    """Passed off as whole."""
    CUT = "CUT"
    """The client was left without a word."""
    HUNG = "HUNG"
    BLAMED = "BLAMED"
    """The client was told that the request is at fault, or something nobody can make sense of."""
    ODD = "ODD"
    """Against the rules of its dialect."""
    MISCOUNTED = "MISCOUNTED"
    """Right, but for the tokens it is said to have."""


HONEST = frozenset({Verdict.RIGHT, Verdict.REFUSED, Verdict.BROKEN})
_ERRORS = (429, 502, 503, 504)


def judge(heard: Heard, right: Right) -> Verdict:
    """What `heard` is worth where `right` is the right answer."""
    if heard.hung:
        return Verdict.HUNG
    if heard.cut is not None:
        return Verdict.CUT
    if heard.odd is not None:
        return Verdict.ODD
    if heard.status != 200:
        told = heard.status in _ERRORS and heard.error
        return Verdict.REFUSED if told else Verdict.BLAMED
    if heard.error is not None:
        true = right.text.startswith(heard.text) and not heard.done
        return Verdict.BROKEN if true else Verdict.WRONG
    if not heard.done:
        return Verdict.TRUNCATED
    if (heard.text, heard.finish) == (right.text, right.finish):
        return Verdict.RIGHT if heard.tokens == right.tokens else Verdict.MISCOUNTED
    shorter = len(heard.text) < len(right.text) and right.text.startswith(heard.text)
    return Verdict.TRUNCATED if shorter else Verdict.WRONG

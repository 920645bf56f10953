from __future__ import annotations

import pytest

from backends.launch.doubt import Finding, Token, look_closely
from backends.readiness import Condition

MADE = Token(True)
REFUSED = Token(False, "refuses the key", condition=Condition.MISCONFIGURED)
LATE = Token(False, "made no token within 1 s")
FULL = Token(False, "answers HTTP 429 when asked for a token", refused=True)
STILL = ", and nothing else moves"


class Engine:
    """What it says when it is asked how far it is, first and then, and what of the token."""

    def __init__(self, before: float | None, token: Token, after: float | None) -> None:
        self._steps = iter((before, after))
        self._token = token

    async def make_token(self, within: float) -> Token:
        return self._token

    async def steps(self, within: float) -> float | None:
        return next(self._steps)


@pytest.mark.parametrize(
    ("before", "token", "after", "finding"),
    [
        (None, MADE, None, Finding(True)),
        (5, MADE, 5, Finding(True)),
        (5, REFUSED, 6, Finding(False, REFUSED.why_not, Condition.MISCONFIGURED)),
        (5, LATE, 6, Finding(True)),
        (5, FULL, 6, Finding(True)),
        (5, LATE, 5, Finding(False, LATE.why_not + STILL)),
        (5, FULL, 5, Finding(False, FULL.why_not + STILL)),
        (5, LATE, None, Finding(False, LATE.why_not)),
        (None, LATE, None, Finding(False, LATE.why_not)),
        (None, LATE, 5, Finding(False, LATE.why_not)),
        (None, FULL, None, Finding(None)),
        (5, FULL, None, Finding(None)),
    ],
)
async def test_it_hangs_only_if_neither_the_token_comes_nor_its_count_moves(
    before, token, after, finding
):
    assert await look_closely(Engine(before, token, after), 0) == finding

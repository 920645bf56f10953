"""All faults, what each does to a stream and to an answer in one piece, and what comes of it.

A new fault is a row. It says what the engine does, in the steps of `tests/support/steps.py` and
the words of whichever dialect it speaks, and what client and engine see in each house.
"""

from __future__ import annotations

from tests.faults.table.broken_answers import BROKEN_ANSWERS
from tests.faults.table.connection import CONNECTION
from tests.faults.table.ends import ENDS
from tests.faults.table.row import Row
from tests.faults.table.sizes import SIZES
from tests.faults.table.statuses import STATUSES

FAULTS: dict[str, Row] = {**CONNECTION, **STATUSES, **BROKEN_ANSWERS, **ENDS, **SIZES}

CORE = (
    "refuse",
    "reset before headers",
    "silence",
    "429 without Retry-After",
    "500 once",
    "503 forever",
    "truncated JSON",
    "malformed event",
    "malformed event after content",
    "error object with 200",
    "error object after content",
    "cut before content, without one",
    "cut with a clean end",
    "cut without a clean end",
    "reset in the middle",
    "[DONE] without a finish reason",
    "stall",
    "missing [DONE]",
    "missing [DONE], and no clean end",
    "slow drip",
    "gzip",
)
"""The faults that every dialect goes through; a chat goes through all."""

"""Counts calls of functions: what a request costs, as far as a busy machine does not blur it."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any

ROOT = Path(__file__).parents[2]
COUNTED = (f"{ROOT}/gateway/", f"{ROOT}/backends/", "/uvicorn/protocols/")


class Calls:
    """Calls of Python functions, and resumptions of coroutines, while it is entered.

    Those of the gateway, of its adapters, and of uvicorn's protocol, in this thread.
    """

    def __init__(self) -> None:
        self.by_code: Counter[CodeType] = Counter()

    def __enter__(self) -> Calls:
        sys.setprofile(self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and any(where in frame.f_code.co_filename for where in COUNTED):
            self.by_code[frame.f_code] += 1

    @property
    def total(self) -> int:
        """All of them so far."""
        return self.by_code.total()

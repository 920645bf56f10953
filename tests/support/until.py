"""Waiting in tests: for what happens, and not for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], within: float = 10.0) -> None:
    """Look again and again until `condition` holds. Raises `TimeoutError` after that many seconds.

    They only bound a test that has failed already.
    """
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.002)

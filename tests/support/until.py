"""Waiting in tests: for what happens, and not for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(
    condition: Callable[[], object], *, within: float = 20.0, every: float = 0.002
) -> None:
    """Look again and again until `condition` holds.

    `every`: seconds between two looks; 0 looks at each turn of the event loop, for what may pass.
    Raises `TimeoutError` after `within` seconds, which only bound a test that has failed already.
    """
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(every)

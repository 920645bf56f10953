"""Turns at what only a few requests may do at a time. Of the event loop that it is used in.

Who waits for one is bounded in number and in time, and gets a 429 beyond either.
"""

from __future__ import annotations

import asyncio

from backends.base import RequestRefused


class Turns:
    """So many at once."""

    def __init__(self, at_once: int, what: str, *, max_waiting: int, within: float) -> None:
        """`max_waiting` may wait, each `within` so many seconds; `what` they wait for, in words."""
        self._what = what
        self._max_waiting = max_waiting
        self._within = within
        self._waiting = 0
        self._turns = asyncio.Semaphore(at_once)

    async def take(self) -> None:
        """Wait for one; whoever has got it must `give` it back. Raises `RequestRefused`."""
        if self._turns.locked() and self._waiting >= self._max_waiting:
            raise self._full()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._within):
                await self._turns.acquire()
        except TimeoutError:
            raise self._full() from None
        finally:
            self._waiting -= 1

    def give(self) -> None:
        """Let the next one have it."""
        self._turns.release()

    def _full(self) -> RequestRefused:
        return RequestRefused(
            429,
            f"too many requests wait {self._what}; try again shortly",
            code="engine_overloaded",
            retry_after=1.0,
        )

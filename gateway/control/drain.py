"""Leave without cutting anybody off.

    serving ──SIGTERM──► leaving ──grace──► draining ──all done, or the limit──► closed
                            │                   │
              /ready says no, requests      new requests get 503,
              are still taken               running ones go on

What still runs at the limit is cut: its stream ends with an error event.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from enum import StrEnum
from typing import Any

from gateway.errors import Unavailable

logger = logging.getLogger(__name__)

_LOOK_AGAIN = 1.0
"""Seconds between two looks at what is still running."""
_CUT_TIME = 2.0
"""Seconds that cut requests have to send their last event."""


class Phase(StrEnum):
    """Where on the way out the gateway is."""

    SERVING = "serving"
    LEAVING = "leaving"
    DRAINING = "draining"
    CUT = "cut"


class Drain:
    """The owner of what is in flight, and of the way out."""

    def __init__(self) -> None:
        self.phase = Phase.SERVING
        self._tasks: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def in_flight(self) -> int:
        """Requests that have been taken and not yet answered."""
        return len(self._tasks)

    def admit(self, task: asyncio.Task[Any]) -> None:
        """Take a request, answered by `task`, which must be `done` whatever happens.

        Raises `Unavailable` where none is taken any more.
        """
        if self.phase in (Phase.DRAINING, Phase.CUT):
            raise shutting_down()
        self._tasks.add(task)
        self._idle.clear()

    def done(self, task: asyncio.Task[Any]) -> None:
        """The request of `task` is over. Idempotent."""
        self._tasks.discard(task)
        if not self._tasks:
            self._idle.set()

    async def run(self, grace: float, timeout: float) -> None:
        """Go the way out; returns when nothing runs any more. `cut` ends it early."""
        self.phase = Phase.LEAVING
        logger.info("leaving: /ready says no; requests are still taken for %g s", grace)
        await self._wait_for_cut(grace)
        if self.phase is Phase.LEAVING:
            self.phase = Phase.DRAINING
            logger.info(
                "draining: %d requests in flight may finish within %g s", self.in_flight, timeout
            )
            await self._wait_until_idle(timeout)
        if self._tasks:
            logger.warning("cutting %d requests that have not finished", self.in_flight)
            self.cut()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), _CUT_TIME)

    def cut(self) -> None:
        """End what runs, now: each stream gets an error event."""
        self.phase = Phase.CUT
        for task in self._tasks:
            task.cancel()

    async def _wait_for_cut(self, seconds: float) -> None:
        end = asyncio.get_running_loop().time() + seconds
        while self.phase is Phase.LEAVING and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(min(0.05, seconds))

    async def _wait_until_idle(self, timeout: float) -> None:
        end = asyncio.get_running_loop().time() + timeout
        while self._tasks and self.phase is Phase.DRAINING:
            left = end - asyncio.get_running_loop().time()
            if left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), min(left, _LOOK_AGAIN))


def shutting_down() -> Unavailable:
    """What a client is told that comes too late, or whose stream is cut."""
    return Unavailable(
        "the gateway is shutting down; another one, or this one in a moment, will answer",
        code="shutting_down",
        retry_after=1.0,
    )

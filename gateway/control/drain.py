"""Leave without cutting anybody off.

    serving ──SIGTERM──► leaving ──grace──► draining ──all done, or the limit──► cut
                            │                   │
              /ready says no, requests      new requests get 503,
              are still taken               running ones go on

What still runs at the limit is cut: its stream ends with an error event.
"""

from __future__ import annotations

import asyncio
import logging
from enum import StrEnum
from typing import Any

from gateway.errors import Unavailable

logger = logging.getLogger(__name__)

_CUT_TIME = 2.0
"""Seconds that cut requests have to send their last event."""


class Phase(StrEnum):
    """Where on the way out the gateway is."""

    SERVING = "serving"
    LEAVING = "leaving"
    DRAINING = "draining"
    CUT = "cut"
    """What was not done by the limit is ended; where all was done, nothing is left to end."""


class Drain:
    """The owner of what is in flight, and of the way out."""

    def __init__(self) -> None:
        self.phase = Phase.SERVING
        self._tasks: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._told_to_cut = asyncio.Event()

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
        """Go the way out, to its end, `CUT`; returns when nothing runs. `cut` ends it early."""
        try:
            self.phase = Phase.LEAVING
            logger.info("leaving: /ready says no; requests are still taken for %g s", grace)
            await _first_of(grace, self._told_to_cut)
            if not self._told_to_cut.is_set():
                self.phase = Phase.DRAINING
                logger.info(
                    "draining: %d requests in flight may finish within %g s",
                    self.in_flight,
                    timeout,
                )
                await _first_of(timeout, self._told_to_cut, self._idle)
            if self._tasks:
                logger.warning("cutting %d requests that have not finished", self.in_flight)
        finally:
            self.cut()
        await _first_of(_CUT_TIME, self._idle)

    def cut(self) -> None:
        """End what runs, now: each stream gets an error event. Idempotent."""
        if self.phase is Phase.CUT:
            return
        self.phase = Phase.CUT
        self._told_to_cut.set()
        for task in self._tasks:
            task.cancel()


async def _first_of(seconds: float, *events: asyncio.Event) -> None:
    """Wait until one of `events` is set, at most so long."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def shutting_down() -> Unavailable:
    """What a client is told that comes too late, or whose stream is cut."""
    return Unavailable(
        "the gateway is shutting down; another one, or this one in a moment, will answer",
        code="shutting_down",
        retry_after=1.0,
    )

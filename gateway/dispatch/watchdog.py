"""Bounds the waits of one task, for two attribute writes per wait.

`asyncio.timeout` makes and cancels a timer each time; a stream waits once per token. Here one
timer serves a whole request: it is left running between waits and looks, when it fires,
whether the wait of that moment is really over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from math import inf
from typing import TypeVar

T = TypeVar("T")


class WaitTooLongError(Exception):
    """A bounded wait was not over in time."""


class Watchdog:
    """Owned by the task that makes it; only that task may wait with it, one wait at a time."""

    __slots__ = ("_cancelling", "_due", "_expired", "_loop", "_task", "_timer")

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "a watchdog is made inside the task that it watches"
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._due = inf
        self._expired = False
        self._cancelling = 0
        self._timer: asyncio.TimerHandle | None = None

    def now(self) -> float:
        """The loop's time in seconds, which deadlines are given in."""
        return self._loop.time()

    async def wait(self, awaitable: Awaitable[T], deadline: float) -> T:
        """What `awaitable` gives; cancels it and raises `WaitTooLongError` after `deadline`."""
        self._arm(deadline)
        try:
            return await awaitable
        except asyncio.CancelledError:
            if self._expired:
                self._expired = False
                if self._task.uncancel() <= self._cancelling:
                    raise WaitTooLongError from None
            raise
        finally:
            self._due = inf

    def close(self) -> None:
        """Stop the timer. The watchdog is of no use afterwards."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, deadline: float) -> None:
        self._due = deadline
        self._cancelling = self._task.cancelling()
        timer = self._timer
        if timer is not None:
            if timer.when() <= deadline:
                return  # it fires early, sees that, and goes on
            timer.cancel()
        self._timer = self._loop.call_at(deadline, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self._due == inf:
            return  # nobody waits now: the next wait sets a new timer
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._fire)
            return
        self._due = inf
        self._expired = True
        self._task.cancel()

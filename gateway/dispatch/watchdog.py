"""Bounds the waits of the tasks that answer requests, for a few attribute writes per wait.

`asyncio.timeout` makes and cancels a timer each time; a stream waits once per token, and even one
timer per request is a fiftieth of what a small one costs. Here one timer serves all of them: it
comes back every `TICK` and looks whose wait is over. A deadline is so met within a `TICK`, which
is little beside the seconds that timeouts are made of.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")
Prolong = Callable[[float], float]

TICK = 0.025
"""Seconds between two looks."""


class WaitTooLongError(Exception):
    """A bounded wait was not over in time."""


class Watchdogs:
    """The owner of the timer. Belongs to the event loop that first asks it to `watch`."""

    def __init__(self) -> None:
        self._awake: set[Watchdog] = set()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, task: asyncio.Task[Any]) -> Watchdog:
        """A watchdog for the waits of `task`, which must `close` it."""
        loop = asyncio.get_running_loop()
        watchdog = Watchdog(self, loop, task)
        self._awake.add(watchdog)
        if self._timer is None:
            self._timer = loop.call_later(TICK, self._look, loop)
        return watchdog

    def dismiss(self, watchdog: Watchdog) -> None:
        """Forget a watchdog."""
        self._awake.discard(watchdog)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for watchdog in self._awake:
            if watchdog.due <= now and not watchdog.may_go_on(now):
                watchdog.expire()
        self._timer = loop.call_later(TICK, self._look, loop) if self._awake else None


class Watchdog:
    """Watches one task, which alone may wait with it, one wait at a time."""

    __slots__ = ("_cancelling", "_expired", "_owner", "_prolong", "_task", "due", "now")

    def __init__(
        self, owner: Watchdogs, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]
    ) -> None:
        self._owner = owner
        self._task = task
        self._expired = False
        self._cancelling = 0
        self._prolong: Prolong | None = None
        self.due = inf
        """When the wait of the moment is too long; infinity between two waits."""
        self.now = loop.time
        """The loop's time in seconds, which deadlines are given in."""

    async def wait(
        self, awaitable: Awaitable[T], deadline: float, prolong: Prolong | None = None
    ) -> T:
        """What `awaitable` gives; cancels it and raises `WaitTooLongError` after `deadline`.

        `prolong` is given the time when it is over, and gives the deadline by what is known then:
        the wait goes on where that is still to come.
        """
        self.due = deadline
        self._prolong = prolong
        self._cancelling = self._task.cancelling()
        try:
            result = await awaitable
        except BaseException:
            if self._expired and self._task.uncancel() <= self._cancelling:
                raise WaitTooLongError from None
            raise
        else:
            if self._expired:
                self._task.uncancel()  # it came all the same
            return result
        finally:
            self.due = inf
            self._expired = False
            self._prolong = None  # it mostly leads back here: no circle for the collector

    def of(self, task: asyncio.Task[Any]) -> Watchdog:
        """One for another task, which must `close` it."""
        return self._owner.watch(task)

    def may_go_on(self, now: float) -> bool:
        """Whether the wait, whose deadline has come, has another one."""
        if self._prolong is None:
            return False
        try:
            self.due = self._prolong(now)
        except Exception:  # all the others are watched by the same timer
            logger.exception("asking whether a wait may go on hit a bug")
            return False
        return self.due > now

    def close(self) -> None:
        """Watch no more."""
        self._owner.dismiss(self)

    def expire(self) -> None:
        """The wait is too long: end it."""
        self.due = inf
        self._expired = True
        self._task.cancel()

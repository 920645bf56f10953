"""Turns at what only so much can be done of at a time. Of the event loop that it is used in.

Rules of this file:

- Who waits for a turn is bounded in number and in time, and gets a 429 beyond either.
- In order of arrival: something large is never passed by for as long as small things come.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from backends.base import RequestRefused


class _Waiting(NamedTuple):
    size: int
    turn: asyncio.Future[None]


class Turns:
    """Turns that come to `room` at once, by their sizes."""

    def __init__(self, room: int, what: str, *, max_waiting: int, within: float) -> None:
        """`max_waiting` may wait, each `within` so many seconds; `what` they wait for, in words."""
        self._room = self._free = room
        self._what = what
        self._max_waiting = max_waiting
        self._within = within
        self._queue: deque[_Waiting] = deque()
        self.waited = 0.0
        """Seconds that all have waited so far, together."""

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._queue)

    async def take(self, size: int = 1) -> int:
        """Wait for a turn; gives what has to be given back with `give`. Raises `RequestRefused`.

        What is larger than the room takes all of it.
        """
        size = min(size, self._room)
        if not self._queue and size <= self._free:
            self._free -= size
            return size
        if len(self._queue) >= self._max_waiting:
            raise self._full()
        loop = asyncio.get_running_loop()
        mine = _Waiting(size, loop.create_future())
        self._queue.append(mine)
        began = loop.time()
        try:
            async with asyncio.timeout(self._within):
                await mine.turn
        except TimeoutError:
            self._leave(mine)
            raise self._full() from None
        except asyncio.CancelledError:
            self._leave(mine)
            raise
        finally:
            self.waited += loop.time() - began
        return size

    def give(self, size: int = 1) -> None:
        """Let the next ones have it."""
        self._free += size
        self._serve()

    def _leave(self, one: _Waiting) -> None:
        """Without a turn, or with one that has come at this very moment."""
        if one in self._queue:
            self._queue.remove(one)
            self._serve()
        else:
            self.give(one.size)

    def _serve(self) -> None:
        while self._queue and self._queue[0].size <= self._free:
            size, turn = self._queue.popleft()
            self._free -= size
            if turn.done():  # it gives up in this moment, and gives it back
                continue
            turn.set_result(None)

    def _full(self) -> RequestRefused:
        return RequestRefused(
            429,
            f"too many requests wait {self._what}; try again shortly",
            code="engine_overloaded",
            retry_after=1.0,
        )

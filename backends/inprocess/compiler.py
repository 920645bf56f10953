"""Makes grammars of constraints: off the event loop, off the engine's thread, each only once.

Rules of this file:

- Everything here runs in the event loop, but for `_compile`, which runs in a thread of its own.
- What was compiled is kept, failures too, and forgotten by use.
- Nobody waits for longer than `timeout`, and a bounded number of grammars wait. A thread cannot be
  stopped: one that takes too long keeps its place, and the process does not wait for it at its end.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from functools import partial

from backends.base import RequestRefused
from backends.inprocess.constraint import Compile, Constraint, Grammar, blamed, uncompilable

KEPT = 64
"""Grammars."""
_THREADS = 2
"""One that is slow does not hold up all others."""
_WAITING = 32


class Compiler:
    """Owns the threads and what they made, for one loaded model."""

    def __init__(self, compile_: Compile, *, timeout: float = 10.0) -> None:
        """`timeout` is in seconds, for the wait and the work together."""
        self._compile = compile_
        self._timeout = timeout
        self._made: OrderedDict[Constraint, asyncio.Future[Grammar]] = OrderedDict()
        self._waiting: deque[tuple[Constraint, asyncio.Future[Grammar]]] = deque()
        self._running = 0

    async def grammar(self, constraint: Constraint) -> Grammar:
        """The grammar of `constraint`.

        Raises `RequestRefused`: the schema cannot be compiled, or not in time, or too many wait.
        """
        made = self._made.get(constraint)
        if made is None:
            made = self._begin(constraint)
        self._made.move_to_end(constraint)
        if made.done():
            return made.result()
        try:
            # Shielded: others may wait for the same one.
            return await asyncio.wait_for(asyncio.shield(made), self._timeout)
        except TimeoutError:
            reason = f"it takes longer than {self._timeout:g} s"
            raise uncompilable(blamed(constraint), reason) from None

    def _begin(self, constraint: Constraint) -> asyncio.Future[Grammar]:
        if len(self._waiting) >= _WAITING:
            raise RequestRefused(
                429,
                f"{_WAITING} schemas wait to be compiled; try again shortly",
                code="engine_overloaded",
                retry_after=1.0,
            )
        made: asyncio.Future[Grammar] = asyncio.get_running_loop().create_future()
        self._made[constraint] = made
        if len(self._made) > KEPT:
            self._made.popitem(last=False)
        self._waiting.append((constraint, made))
        self._start_next()
        return made

    def _start_next(self) -> None:
        while self._waiting and self._running < _THREADS:
            constraint, made = self._waiting.popleft()
            self._running += 1
            work = partial(self._work, constraint, made, made.get_loop())
            threading.Thread(target=work, name="grammar", daemon=True).start()

    def _work(
        self,
        constraint: Constraint,
        made: asyncio.Future[Grammar],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """In a thread: compile, and say what came of it."""
        try:
            end = partial(made.set_result, self._compile(constraint))
        except Exception as error:  # told to whoever waits, in the event loop
            end = partial(made.set_exception, error)
        try:
            loop.call_soon_threadsafe(self._ended, made, end)
        except RuntimeError:  # the loop is closed: nobody is left to tell
            return

    def _ended(self, made: asyncio.Future[Grammar], end: partial[None]) -> None:
        self._running -= 1
        end()
        made.exception()  # looked at, also where nobody waits for it any more
        self._start_next()

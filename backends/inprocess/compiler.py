"""Makes grammars of constraints: off the event loop, off the engine's thread, each only once.

Rules of this file:

- Everything here runs in the event loop, but for `_work`, which runs in a thread of its own.
- What was compiled is kept, failures too, and forgotten by use.
- Every wait has an end. What takes too long to compile is the fault of its schema; what waits too
  long for others is not, and may come again.
- A thread cannot be stopped: one that takes too long keeps its place, and the process does not wait
  for it at its end.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict, deque
from functools import partial

from backends.base import RequestRefused
from backends.inprocess.constraint import (
    MAX_SCHEMA,
    Compile,
    Compiled,
    Constraint,
    blamed,
    uncompilable,
)

logger = logging.getLogger(__name__)

KEPT = 16
KEPT_BYTES = 2 * MAX_SCHEMA
"""How many grammars are kept, and of how many bytes of schemas: no plan of the memory counts them,
and llguidance does not tell their size. A large one takes about 70 bytes for each of its schema's,
a small one some 200 KiB: all together at most some 20 MiB."""
_THREADS = 2
"""One that is slow does not hold up all others."""
_WAITING = 32


class _Making:
    """A grammar that has been asked for."""

    __slots__ = ("begun", "constraint", "deadline", "made")

    def __init__(self, constraint: Constraint, loop: asyncio.AbstractEventLoop) -> None:
        self.constraint = constraint
        self.begun = asyncio.Event()
        """It waits no more; where a thread could be had, one is at it."""
        self.deadline = 0.0
        """When it has taken too long, by the loop's clock; set as it begins."""
        self.made: asyncio.Future[Compiled] = loop.create_future()


class Compiler:
    """Owns the threads and what they made, for one loaded model."""

    def __init__(
        self, compile_: Compile, *, timeout: float = 10.0, queue_timeout: float = 10.0
    ) -> None:
        """In seconds: `timeout` for the work, `queue_timeout` for the wait before it."""
        self._compile = compile_
        self._timeout = timeout
        self._queue_timeout = queue_timeout
        self._known: OrderedDict[Constraint, _Making] = OrderedDict()
        self._waiting: deque[_Making] = deque()
        self._running = 0

    async def grammar(self, constraint: Constraint) -> Compiled:
        """The grammar of `constraint`.

        Raises `RequestRefused`: the schema cannot be compiled, or not in time, or too many wait.
        """
        making = self._known.get(constraint)
        if making is None:
            making = self._begin(constraint)
        else:
            self._known.move_to_end(constraint)
        try:
            async with asyncio.timeout(self._queue_timeout):
                await making.begun.wait()
        except TimeoutError:
            raise _busy(f"no schema could be compiled within {self._queue_timeout:g} s") from None
        if making.made.done():
            return making.made.result()
        try:
            async with asyncio.timeout_at(making.deadline):
                # Shielded: others may wait for the same one.
                return await asyncio.shield(making.made)
        except TimeoutError:
            reason = f"it takes longer than {self._timeout:g} s"
            raise uncompilable(blamed(constraint), reason) from None

    def _begin(self, constraint: Constraint) -> _Making:
        if len(self._waiting) >= _WAITING:
            raise _busy(f"{_WAITING} schemas wait to be compiled")
        making = _Making(constraint, asyncio.get_running_loop())
        self._known[constraint] = making
        self._waiting.append(making)
        self._start_next()
        return making

    def _start_next(self) -> None:
        while self._waiting and self._running < _THREADS:
            making = self._waiting.popleft()
            loop = making.made.get_loop()
            making.deadline = loop.time() + self._timeout
            making.begun.set()
            self._running += 1
            work = partial(self._work, making, loop)
            try:
                threading.Thread(target=work, name="grammar", daemon=True).start()
            except RuntimeError as error:  # the process may have no more threads
                self._running -= 1
                self._known.pop(making.constraint, None)
                making.made.set_exception(_busy(f"no schema can be compiled now: {error}"))
                making.made.exception()  # looked at, whoever waits for it

    def _work(self, making: _Making, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread: compile, and say what came of it."""
        made, constraint = making.made, making.constraint
        try:
            end = partial(made.set_result, self._compile(constraint))
        except RequestRefused as error:  # told to whoever waits, in the event loop
            end = partial(made.set_exception, error)
        except BaseException:  # a panic of Rust's is no `Exception`
            logger.exception("a grammar could not be compiled")
            refused = uncompilable(blamed(constraint), "the compiler fails on it")
            end = partial(made.set_exception, refused)
        try:
            loop.call_soon_threadsafe(self._ended, made, end)
        except RuntimeError:  # the loop is closed: nobody is left to tell
            return

    def _ended(self, made: asyncio.Future[Compiled], end: partial[None]) -> None:
        self._running -= 1
        end()
        made.exception()  # looked at, also where nobody waits for it any more
        self._forget()
        self._start_next()

    def _forget(self) -> None:
        """Drop those that were not asked for lately; never one that somebody may wait for."""
        settled = [known for known, making in self._known.items() if making.made.done()]
        count, size = len(settled), sum(known.nbytes for known in settled)
        for constraint in settled:
            if count <= KEPT and size <= KEPT_BYTES:
                break
            del self._known[constraint]
            count, size = count - 1, size - constraint.nbytes


def _busy(why: str) -> RequestRefused:
    return RequestRefused(
        429, f"{why}; try again shortly", code="engine_overloaded", retry_after=1.0
    )

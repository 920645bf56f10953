"""Makes grammars of constraints: off the event loop, off the engine's thread, each only once.

Rules of this file:

- Everything here runs in the event loop, but for `compile`, which runs in a thread of its own.
- What was compiled is kept, failures too, and forgotten by use.
- Nobody waits for longer than `timeout`, and a bounded number of grammars wait.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
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
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="grammar")
        self._made: OrderedDict[Constraint, asyncio.Future[Grammar]] = OrderedDict()
        self._unfinished = 0

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
            # Shielded: others may wait for the same one, and a thread cannot be stopped.
            return await asyncio.wait_for(asyncio.shield(made), self._timeout)
        except TimeoutError:
            reason = f"it takes longer than {self._timeout:g} s"
            raise uncompilable(blamed(constraint), reason) from None

    def close(self) -> None:
        """Begin no more; what runs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self, constraint: Constraint) -> asyncio.Future[Grammar]:
        if self._unfinished >= _WAITING:
            raise RequestRefused(
                429,
                f"{_WAITING} schemas are being compiled; try again shortly",
                code="engine_overloaded",
                retry_after=1.0,
            )
        loop = asyncio.get_running_loop()
        made = loop.run_in_executor(self._threads, partial(self._compile, constraint))
        made.add_done_callback(self._ended)
        self._unfinished += 1
        self._made[constraint] = made
        if len(self._made) > KEPT:
            self._made.popitem(last=False)
        return made

    def _ended(self, made: asyncio.Future[Grammar]) -> None:
        self._unfinished -= 1
        if not made.cancelled():
            made.exception()  # looked at, also where nobody waits for it any more

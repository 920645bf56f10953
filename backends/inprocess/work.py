"""Work for the engine's thread that is no generation: asked, done piece by piece, settled.

Rule of this file: `advance` belongs to the engine's thread; everything else, to the event loop's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from functools import partial
from typing import Generic, TypeVar

from backends.base import BackendError, Cause, Stage
from backends.inprocess.failures import said
from backends.inprocess.runtime import Runtime

T = TypeVar("T")
Pieces = Generator[None, None, T]
"""Work that lets others have a turn wherever it yields; returns what comes of it."""


def at_once(function: Callable[[Runtime], T]) -> Callable[[Runtime], Pieces[T]]:
    """`function` as one piece."""

    def pieces(runtime: Runtime) -> Pieces[T]:
        yield from ()
        return function(runtime)

    return pieces


class Work(Generic[T]):
    """What `function` begins in the engine's thread, and the future of what comes of it.

    `library` is what its errors call the engine.
    """

    __slots__ = ("_function", "_library", "_pieces", "result")

    def __init__(
        self, library: str, function: Callable[[Runtime], Pieces[T]], result: asyncio.Future[T]
    ) -> None:
        self._library = library
        self._function = function
        self._pieces: Pieces[T] | None = None
        self.result = result

    def advance(self, runtime: Runtime) -> Callable[[], None] | None:
        """Do a piece; gives what tells the outcome, to be called in the event loop.

        None, where there is more to do.
        """
        try:
            if self._pieces is None:
                self._pieces = self._function(runtime)
            next(self._pieces)
        except StopIteration as end:
            return partial(self._succeed, end.value)
        except Exception as error:  # from the runtime: it concerns this caller alone
            return partial(self.fail, self._translated(error))
        return None

    def fail(self, error: BackendError) -> None:
        """It will not be done, or has failed."""
        if not self.result.done():
            self.result.set_exception(error)

    def _succeed(self, value: T) -> None:
        if not self.result.done():  # whoever asked has gone
            self.result.set_result(value)

    def _translated(self, error: Exception) -> BackendError:
        if isinstance(error, BackendError):
            return error
        message = f"{self._library} could not do this: {said(error)}"
        return BackendError(Stage.SENT, Cause.ENGINE, message)

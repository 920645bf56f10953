"""One piece of work for the engine's thread that is no generation: asked, done, settled.

Rule of this file: `call` belongs to the engine's thread; everything else, to the event loop's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from backends.base import BackendError, Cause, Stage
from backends.inprocess.failures import said
from backends.inprocess.runtime import Runtime

T = TypeVar("T")


class Work(Generic[T]):
    """A function for the engine's thread, and the future of what it returns.

    `library` is what its errors call the engine.
    """

    __slots__ = ("_function", "_library", "result")

    def __init__(
        self, library: str, function: Callable[[Runtime], T], result: asyncio.Future[T]
    ) -> None:
        self._library = library
        self._function = function
        self.result = result

    def call(self, runtime: Runtime) -> Callable[[], None]:
        """Do it; gives what tells the outcome, to be called in the event loop."""
        try:
            value = self._function(runtime)
        except Exception as error:  # from the runtime: it concerns this caller alone
            return partial(self.fail, self._translated(error))
        return partial(self._succeed, value)

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

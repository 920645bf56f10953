"""What a library's errors come to."""

from __future__ import annotations

from backends.base import BackendError, Cause, Stage


def said(error: BaseException) -> str:
    """What an error says, never nothing: a `MemoryError` for one has no words of its own."""
    return str(error) or repr(error)


def failed(message: str) -> BackendError:
    """An engine that could not be started: nothing has reached it."""
    return BackendError(Stage.CONNECT, Cause.ENGINE, message)

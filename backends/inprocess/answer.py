"""The event loop's end of a job: deltas as they come, and the reply's bytes made of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from backends.base import BackendError, Stage
from backends.inprocess.events import DONE, Usage, Writer
from backends.inprocess.job import Piece
from backends.inprocess.text import Delta


class Answer:
    """What has come of one job. `choices` is how many rows it has.

    It holds at most what the engine has generated, which the context length bounds: a slow
    reader does not stop the batch.
    """

    def __init__(self, choices: int) -> None:
        self.choices = choices
        self._deltas: deque[Delta] = deque()
        self._unfinished = choices
        self._tokens = [0] * choices
        self._reasoning_tokens: list[int | None] = [None] * choices
        self._error: BackendError | None = None
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def complete(self) -> bool:
        """Every choice has its finish reason."""
        return self._unfinished == 0

    @property
    def pending(self) -> bool:
        """Something has come that nobody has taken yet."""
        return bool(self._deltas)

    @property
    def tokens(self) -> int:
        """Tokens generated for it; complete when the answer is."""
        return sum(self._tokens)

    @property
    def reasoning_tokens(self) -> int | None:
        """Those of them that are thinking; None where thinking is not looked for."""
        counts = [count for count in self._reasoning_tokens if count is not None]
        return sum(counts) if counts else None

    def sink(self, piece: Piece) -> None:
        """Take what the engine has."""
        if isinstance(piece, BackendError):
            self._error = piece
        else:
            self._deltas.extend(piece)
            for delta in piece:
                self._tokens[delta.index] = delta.tokens
                self._reasoning_tokens[delta.index] = delta.reasoning_tokens
                self._unfinished -= delta.finish is not None
        self._wake()

    def close(self) -> None:
        """Wake who waits; there is nothing more for them."""
        self._closed = True
        self._deltas.clear()
        self._wake()

    async def next(self) -> list[Delta]:
        """All deltas that have come since, at least one; none at the end.

        Raises the engine's `BackendError`, after the deltas that came before it.
        """
        while not self._deltas:
            if self._closed or self.complete:
                return []
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        deltas = list(self._deltas)
        self._deltas.clear()
        return deltas

    async def all(self) -> list[Delta]:
        """Every delta, once the answer is complete."""
        deltas: list[Delta] = []
        while more := await self.next():
            deltas += more
        return deltas

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class EventStream:
    """A streamed reply: the answer as server-sent events."""

    def __init__(
        self,
        answer: Answer,
        writer: Writer,
        first: list[Delta],
        *,
        choices: int,
        prompt_tokens: int | None,
        cached_tokens: Callable[[], int],
        cancel: Callable[[], None],
    ) -> None:
        self._answer = answer
        self._writer = writer
        self._ready: list[Delta] | None = first
        self._opening = writer.opening(choices)
        self._prompt_tokens = prompt_tokens
        """Set where the stream shall end with the usage."""
        self._cached_tokens = cached_tokens
        self._cancel = cancel
        self._ended = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._ended:
            raise StopAsyncIteration
        deltas, self._ready = self._ready, None
        if deltas is None:
            deltas = await self._next()
        out = b"".join([self._opening, *map(self._writer.delta, deltas)])
        self._opening = b""
        if not deltas:  # closed while it waited
            raise StopAsyncIteration
        if self._answer.complete and not self._answer.pending:
            self._ended = True
            out += self._tail()
        return out

    async def aclose(self) -> None:
        """Stop generating for this reply."""
        self._ended = True
        self._cancel()
        self._answer.close()

    async def _next(self) -> list[Delta]:
        try:
            return await self._answer.next()
        except BackendError as error:
            self._ended = True
            raise BackendError(Stage.STREAMING, error.cause, error.message) from error

    def _tail(self) -> bytes:
        if self._prompt_tokens is None:
            return DONE
        answer = self._answer
        usage = Usage(
            self._prompt_tokens, answer.tokens, answer.reasoning_tokens, self._cached_tokens()
        )
        return self._writer.usage(usage) + DONE


class Whole:
    """A reply that is one piece."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        body, self._body = self._body, b""
        if not body:
            raise StopAsyncIteration
        return body

    async def aclose(self) -> None:
        """Nothing is left to stop."""
        self._body = b""

"""What the attempt loop hands to the client: an answer whose first content exists.

`open_answer` takes a fresh attempt to its commit point. Until then everything that comes is held
back, so another replica may still be asked; from then on pieces go out as they come.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from backends.base import Header, Reply
from backends.engine_error import EngineError, parse_error
from backends.sse import EventCutter, EventTooLargeError, is_event_stream
from gateway.dispatch.attempt import Attempt, AttemptFailedError
from gateway.dispatch.verdict import Failure, judge_protocol, judge_status, judge_stream
from gateway.wire.json_answer import MalformedAnswerError, read_answer
from gateway.wire.peek import expected_choices
from gateway.wire.rename import LongRename, StreamRename, with_model
from gateway.wire.resume.sampling import read_sampling
from gateway.wire.watch import StreamWatch, watch_for

WHOLE_ANSWER = 8 << 20
"""Bytes: a longer answer is handed on before it is whole, so from there it cannot be retried."""
_ERROR_BODY = 1 << 20
_HELD_BACK = 1 << 20
"""Bytes of events without content that may pile up before the commit point."""


class Answer:
    """A status, headers and a body in pieces. Whoever holds it must `close` it.

    Iterating gives the pieces as they come and raises `AttemptFailedError` where the engine
    breaks off: what has been handed out until then stands.
    """

    is_stream = False
    on_close: Callable[[], None] | None = None
    """What else is to be done once it is over; may be called more than once."""

    def __init__(self, attempt: Attempt, reply: Reply, head: bytes, *, whole: bool) -> None:
        self.attempt = attempt
        self.status = reply.status
        self.headers: Sequence[Header] = reply.headers
        """The engine's end-to-end headers."""
        self.whole: bytes | None = head if whole else None
        """The complete body, where it is there already."""
        self._head = head

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> bytes:
        piece, self._head = self._head, b""
        if not piece and self.whole is None:
            piece = await self._next()
        if not piece:
            raise StopAsyncIteration
        return piece

    async def _next(self) -> bytes:
        piece = await self.attempt.read()
        if not piece:
            self.attempt.complete()
        return piece

    async def close(self) -> None:
        """Stop the engine's work on it and settle the attempt. Idempotent."""
        try:
            await self.attempt.close()
        finally:
            if self.on_close is not None:
                self.on_close()


class LongAnswer(Answer):
    """One in one piece that is too long to be held: its bytes, with the client's word for the
    model, as they come. `head` is what came before it turned out to be long."""

    def __init__(self, attempt: Attempt, reply: Reply, head: bytes) -> None:
        self._rename = LongRename(attempt.reported_model, head, attempt.asked_model)
        super().__init__(attempt, reply, self._rename.feed(head), whole=False)

    async def _next(self) -> bytes:
        while not self.attempt.is_complete:
            piece = await self.attempt.read()
            if not piece:
                self.attempt.complete()
                return self._rename.end()
            if told := self._rename.feed(piece):
                return told
        return b""


class EventStream(Answer):
    """A stream, followed event by event and changed in nothing but the model's name."""

    is_stream = True
    goes_on = False
    """Somebody has another replica go on where it breaks off."""

    def __init__(self, attempt: Attempt, reply: Reply, watch: StreamWatch) -> None:
        super().__init__(attempt, reply, b"", whole=False)
        self._cutter = EventCutter()
        self._watch = watch
        self._rename = StreamRename(attempt.reported_model)
        self._over = False

    async def reach_content(self) -> None:
        """Gather events until the first content. Raises `AttemptFailedError`."""
        held: list[bytes] = []
        size = 0
        while not self._watch.content and size < _HELD_BACK:
            block = await self._next()
            if not block:
                self._break(EngineError("ended its stream without any content"))
            held.append(block)
            size += len(block)
        self._head = b"".join(held)
        self.attempt.commit()

    async def _next(self) -> bytes:
        """The next whole events; empty once the stream has ended as it should."""
        while not self._over:
            try:
                data = await self.attempt.read()
            except AttemptFailedError:
                if not self._watch.finished or (self.goes_on and self._lacks_usage()):
                    raise
                return self._end(b"")  # it has said that this is all: only the goodbye is missing
            if not data:
                return self._finish()
            try:
                block = self._cutter.feed(data)
            except EventTooLargeError as error:
                self._break(EngineError(str(error)))
            self.attempt.heard(not block.startswith(b":") or b"\ndata" in block)
            if block:
                return self._take(block)
        if self._watch.failure is not None:
            self._break(self._watch.failure)
        return b""

    def _take(self, block: bytes) -> bytes:
        watch = self._watch
        good = watch.feed(block)
        if watch.failure is not None:
            # What stands before the failing event is still true: hand it on, then fail.
            self._over = True
            block = block[:good]
            if not block or not watch.content:
                self._break(watch.failure)
        self._rename.learn(watch.model)
        return self._rename.apply(block)

    def _finish(self) -> bytes:
        self._over = True
        watch = self._watch
        tail = b""
        if self._cutter.rest.strip():
            # The last event may lack its blank line; a torn one does not parse.
            tail = self._rename.apply(self._cutter.rest + b"\n\n")
            watch.feed(tail)
        if watch.failure is None and not watch.finished:
            watch.failure = EngineError("ended its stream without a finish reason")
        if watch.failure is not None:
            self._break(watch.failure)
        return self._end(tail)

    def _end(self, tail: bytes) -> bytes:
        """`tail` and what the dialect ends with, of an answer that is whole."""
        self._over = True
        self.attempt.complete()
        self._count_tokens()
        return tail if self._watch.done else tail + self._watch.ending

    def _count_tokens(self) -> None:
        record = self.attempt.ask.record
        record.input_tokens = self._watch.prompt_tokens
        record.output_tokens = self._watch.completion_tokens
        record.cached_tokens = self._watch.cached_tokens
        if self.attempt.lesson is not None:
            self.attempt.lesson.pieces = self._watch.pieces

    def _lacks_usage(self) -> bool:
        """Whether the client wants it and nothing has told it."""
        if self._watch.completion_tokens is not None:
            return False
        return read_sampling(self.attempt.ask.body).counted

    def _break(self, said: EngineError) -> None:
        self._over = True
        self.attempt.fail(_judge(said, self.attempt))


async def open_answer(attempt: Attempt) -> Answer:
    """Take `attempt` to its commit point. Raises `AttemptFailedError`; then it must be closed."""
    reply = await attempt.send()
    if not 200 <= reply.status < 300:
        body, _ = await _gather(attempt, _ERROR_BODY)
        body = attempt.replica.backend.without_secrets(attempt.replica.address, body)
        attempt.fail(
            judge_status(reply.status, reply.headers, body, attempt.replica.id, time.time())
        )
    if attempt.ask.stream and is_event_stream(reply.headers):
        watch = watch_for(attempt.ask.endpoint, expected_choices(attempt.ask.peeked))
        if watch is not None:
            stream = EventStream(attempt, reply, watch)
            await stream.reach_content()
            return stream
    return await _open_json(attempt, reply)


async def _open_json(attempt: Attempt, reply: Reply) -> Answer:
    body, whole = await _gather(attempt, WHOLE_ANSWER)
    if not whole:
        attempt.commit()
        return LongAnswer(attempt, reply, body)
    try:
        told = read_answer(body)
        if told.model is not None and told.model != attempt.reported_model:
            body = with_model(body, told.model, attempt.reported_model)
    except (MalformedAnswerError, UnicodeDecodeError) as error:
        attempt.fail(judge_protocol(str(error), attempt.replica.id))
    if told.error:
        attempt.fail(_judge(parse_error(None, body), attempt))
    if told.broken_off:
        attempt.fail(judge_stream(EngineError("gave up on the answer"), attempt.replica.id))
    record = attempt.ask.record
    if told.usage is not None:
        record.input_tokens, record.output_tokens = told.usage.prompt, told.usage.completion
        record.cached_tokens = told.usage.cached
    attempt.complete()
    await attempt.close()  # the engine is free before a slow client has read its answer
    return Answer(attempt, reply, body, whole=True)


def _judge(said: EngineError, attempt: Attempt) -> Failure:
    """What comes of an error in an answer whose status was 200."""
    replica = attempt.replica
    hide = partial(replica.backend.without_secrets, replica.address)
    return judge_stream(said.without(hide), replica.id)


async def _gather(attempt: Attempt, limit: int) -> tuple[bytes, bool]:
    """Up to about `limit` bytes of the body, and whether that is all of it."""
    first = await attempt.read()
    if len(first) == _announced_length(attempt):
        return first, True  # mostly so, and the end needs no waiting for
    pieces, size = [first], len(first)
    while pieces[-1] and size <= limit:
        piece = await attempt.read()
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces), not pieces[-1]


def _announced_length(attempt: Attempt) -> int:
    """What the engine says how long its answer is, in bytes; -1 where it does not."""
    for name, value in attempt.reply.headers if attempt.reply is not None else ():
        if name == b"content-length" and value.isdigit():
            return int(value)
    return -1

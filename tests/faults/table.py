"""All faults, what each does to a stream and to an answer in one piece, and what comes of it.

A new fault is a row. It says what the engine does, in the steps of `tests/support/steps.py` and
the words of whichever dialect it speaks, and what client and engine see in each house.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Literal

from tests.faults.outcomes import (
    BEFORE,
    HARMLESS,
    MID_STREAM,
    MISCONFIGURED,
    ONCE,
    OUT_OF_TIME,
    SILENT,
    Broken,
    Cells,
    NoCells,
    Own,
    Saved,
    Told,
    before_content,
)
from tests.faults.speech import SAID, Speech
from tests.support.upstream import (
    DONE,
    END,
    ENGINE_MODEL,
    STREAM_HEAD,
    BeforeBody,
    Close,
    Drip,
    HalfClose,
    Pause,
    Reset,
    Script,
    Send,
    Silence,
    StopReading,
    chunked,
    failing,
    reply,
    response,
    stream,
)

JSON = ("content-type", "application/json")
EVENTS = ("content-type", "text/event-stream")
LARGE = 9 << 20
"""Characters: an answer in one piece that is longer than the gateway holds back."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What an engine does to one kind of request."""

    does: Callable[[Speech], Sequence[Script]]
    """Its scripts, one a request; the last one serves all that come after."""
    cells: Cells
    waits: Literal["first_token", "idle", "total"] | None = None
    """The timeout that ends it, and is short in its house."""
    refuses: bool = False
    """The port is closed: no script is ever reached."""
    padding: int = 0
    """Bytes by which the request is larger than usual."""
    said: str = SAID
    """The text of a whole answer."""
    model: str = "tale"
    """What its own answer calls the model."""
    begun: str = "Once"
    """What has come of one that breaks off."""
    turns: int = 1
    """Requests that are made, one after the other."""
    keeps: bool = False
    """Its connection is sound afterwards, and used for the next request."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fault, for both kinds of request. None is left out without a reason."""

    stream: Fault | NoCells
    whole: Fault | NoCells


def both(
    does: Callable[[Speech], Sequence[Script]],
    cells: Cells,
    whole: Cells | None = None,
    *,
    waits: Literal["first_token"] | None = None,
    **more: object,
) -> Row:
    """The same steps for both; an answer in one piece has no first token, only its total time."""
    return Row(
        stream=Fault(does=does, cells=cells, waits=waits, **more),
        whole=Fault(
            does=does,
            cells=whole or cells,
            waits=None if waits is None else "total",
            **more,
        ),
    )


def either(
    streamed: Callable[[Speech], Sequence[Script]],
    whole: Callable[[Speech], Sequence[Script]],
    cells: Cells,
    **more: object,
) -> Row:
    """Other steps for each, and the same outcome."""
    return Row(
        stream=Fault(does=streamed, cells=cells, **more),
        whole=Fault(does=whole, cells=cells, **more),
    )


def after_content(does: Callable[[Speech], Script], **more: object) -> Fault:
    """A stream that breaks once the client has had something of it."""
    return Fault(does=lambda speech: [does(speech)], cells=MID_STREAM, **more)


NOT_IN_ONE_PIECE = NoCells("an answer in one piece has no events")
NO_STREAM = NoCells("what streams is never held back so long")


def body(speech: Speech) -> bytes:
    return json.dumps(speech.whole(SAID)).encode()


def as_json(content: bytes, status: int = 200, *headers: tuple[str, str]) -> Script:
    return (Send(response(status, content, JSON, *headers)),)


def head(length: int, *headers: str) -> bytes:
    fields = "".join(f"{one}\r\n" for one in headers)
    return (
        f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{fields}"
        f"content-length: {length}\r\n\r\n"
    ).encode()


def begun(speech: Speech, *pieces: bytes, ended: bool = False) -> Script:
    """A stream up to its first content, then these events."""
    return stream(*speech.begun, *pieces, ended=ended)


def in_a_date(seconds: float) -> tuple[str, str]:
    return ("retry-after", formatdate(time.time() + seconds, usegmt=True))


# -- the connection --------------------------------------------------------------------------------

CONNECTION = {
    "refuse": both(lambda _: [(Close(),)], before_content(503, asked=0, tries=3), refuses=True),
    "close before headers": both(lambda _: [(Close(),)], BEFORE),
    "half-close before headers": both(lambda _: [(HalfClose(), Silence())], BEFORE),
    "reset before headers": both(lambda _: [(Reset(),)], BEFORE),
    "reset before the request is read": both(
        lambda _: [(BeforeBody(), Reset())], BEFORE, padding=4 << 20
    ),
    "stop reading": both(
        lambda _: [(BeforeBody(), StopReading(), Silence())],
        SILENT,
        OUT_OF_TIME,
        waits="first_token",
        padding=12 << 20,
    ),
    "reset after headers": either(
        lambda _: [(Send(STREAM_HEAD), Reset())],
        lambda _: [(Send(head(100)), Pause(0.01), Reset())],
        BEFORE,
    ),
    "silence": both(lambda _: [(Silence(),)], SILENT, OUT_OF_TIME, waits="first_token"),
    "slow headers, too slow": both(
        lambda _: [(Drip(STREAM_HEAD, 1, 0.05), Silence())],
        SILENT,
        OUT_OF_TIME,
        waits="first_token",
    ),
    "slow headers, in time": either(
        lambda speech: [(Drip(STREAM_HEAD, 8, 0.004), *speech.good[1:])],
        lambda speech: [(Drip(speech.answer[0].data, 8, 0.002),)],
        HARMLESS,
        keeps=True,
    ),
    "torn headers": both(lambda _: [(Send(b"HTTP/1.1 200 OK\r\ncontent-ty"), Close())], BEFORE),
    "no HTTP": both(lambda _: [(Send(b"SSH-2.0-OpenSSH_9.6\r\n"), Close())], BEFORE),
    "endless headers": both(
        lambda _: [(Send(b"HTTP/1.1 200 OK\r\nx: " + b"x" * 200_000), Silence())], BEFORE
    ),
    "two lengths": both(
        lambda _: [
            (Send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}"), Close())
        ],
        BEFORE,
    ),
    "switch of protocols": both(
        lambda _: [(Send(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n"), Close())], BEFORE
    ),
    "early hints first": either(
        lambda speech: [(Send(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"), *speech.good)],
        lambda speech: [(Send(b"HTTP/1.1 100 Continue\r\n\r\n"), *speech.answer)],
        HARMLESS,
        keeps=True,
    ),
    "bytes behind the answer": either(
        lambda speech: [(*speech.good, Send(response(200, b'{"model":"evil"}')))],
        lambda speech: [(Send(speech.answer[0].data + response(200, b'{"model":"evil"}', JSON)),)],
        HARMLESS,
    ),
    "flapping": either(
        lambda speech: [failing(500), speech.good] * 4,
        lambda speech: [failing(500), speech.answer] * 4,
        Cells(one=Own(asked=8), two=Saved(asked=None), fallback=Own(asked=8)),
        turns=4,
    ),
}

# -- statuses --------------------------------------------------------------------------------------

STATUSES = {
    "429 without Retry-After": both(lambda _: [failing(429)], before_content(429)),
    "429 with Retry-After in seconds": either(
        lambda speech: [failing(429, "later", ("retry-after", "0.2")), speech.good],
        lambda speech: [failing(429, "later", ("retry-after", "0.2")), speech.answer],
        Cells(one=Own(asked=2, gap=0.2), two=Saved(), fallback=Own(asked=2, gap=0.2)),
    ),
    "429 with Retry-After as a date": either(
        lambda speech: [failing(429, "later", in_a_date(6)), speech.good],
        lambda speech: [failing(429, "later", in_a_date(6)), speech.answer],
        Cells(one=Own(asked=2, gap=0.9), two=Saved(), fallback=Own(asked=2, gap=0.9)),
    ),
    "429 with a long Retry-After": both(
        lambda _: [failing(429, "later", ("retry-after", "30"))],
        Cells(one=Told(status=429, asked=1, retry_after="30"), two=Saved(), fallback=Saved()),
    ),
    "500 once": either(
        lambda speech: [failing(500), speech.good],
        lambda speech: [failing(500), speech.answer],
        ONCE,
    ),
    "500 forever": both(lambda _: [failing(500)], BEFORE),
    "503 once": either(
        lambda speech: [failing(503), speech.good],
        lambda speech: [failing(503), speech.answer],
        ONCE,
    ),
    "503 forever": both(lambda _: [failing(503)], before_content(503)),
    "502 from a proxy": both(
        lambda _: [(Send(response(502, b"<html>Bad Gateway</html>")),)], BEFORE
    ),
    "413 before the request is read": both(
        lambda _: [(BeforeBody(), *failing(413, "too large"), Pause(0.05), Close())],
        Cells(
            one=Told(status=413, asked=1),
            two=Told(status=413, asked=1),
            fallback=Told(status=413, asked=1),
        ),
        padding=6 << 20,
    ),
    "408": both(lambda _: [(Send(response(408, b"")),)], before_content(504)),
    "401": both(lambda _: [failing(401, "Incorrect API key: sk-engine")], MISCONFIGURED),
    "redirect": both(
        lambda _: [(Send(response(307, b"", ("location", "http://127.0.0.1:1/"))),)],
        MISCONFIGURED,
    ),
}

# -- answers that are none -------------------------------------------------------------------------

BROKEN_ANSWERS = {
    "truncated JSON": Row(
        stream=after_content(lambda speech: begun(speech, speech.say(" upon")[:-9], ended=True)),
        whole=Fault(does=lambda speech: [as_json(body(speech)[:-9])], cells=BEFORE),
    ),
    "truncated JSON at once": Row(
        stream=Fault(
            does=lambda speech: [stream(*speech.opening, speech.say("Once")[:-9])], cells=BEFORE
        ),
        whole=Fault(does=lambda _: [as_json(b"{")], cells=BEFORE),
    ),
    "malformed event": Row(
        stream=Fault(does=lambda _: [stream(b"data: {broken\n\n")], cells=BEFORE),
        whole=Fault(does=lambda _: [as_json(b"{broken}")], cells=BEFORE),
    ),
    "malformed event before content": Row(
        stream=Fault(
            does=lambda speech: [stream(*speech.opening, b'data: {"choices":[{]}\n\n')],
            cells=BEFORE,
        ),
        whole=NOT_IN_ONE_PIECE,
    ),
    "malformed event after content": Row(
        stream=after_content(
            lambda speech: begun(speech, b"data: {broken\n\n", *speech.ending, ended=True)
        ),
        whole=NOT_IN_ONE_PIECE,
    ),
    "not UTF-8": either(
        lambda _: [stream(b'data: {"model":"\xff\xfe"}\n\n')],
        lambda _: [as_json(b'{"model":"\xff\xfe"}')],
        BEFORE,
    ),
    "nested without end": either(
        lambda _: [stream(b'data: {"x":' + b"[" * 100_000 + b"\n\n")],
        lambda _: [as_json(b'{"x":' + b"[" * 100_000)],
        BEFORE,
    ),
    "error object with 200": Row(
        stream=Fault(does=lambda speech: [stream(speech.failed)], cells=BEFORE),
        whole=Fault(
            does=lambda _: [reply({"error": {"message": "out of memory", "code": 500}})],
            cells=BEFORE,
        ),
    ),
    "error object before content": Row(
        stream=Fault(
            does=lambda speech: [stream(b"".join((*speech.opening, speech.failed)))],
            cells=BEFORE,
        ),
        whole=NOT_IN_ONE_PIECE,
    ),
    "error object after content": Row(
        stream=after_content(lambda speech: begun(speech, speech.failed, DONE, ended=True)),
        whole=NOT_IN_ONE_PIECE,
    ),
    "content and error object at once": Row(
        stream=after_content(lambda speech: stream(b"".join((*speech.begun, speech.failed)))),
        whole=NOT_IN_ONE_PIECE,
    ),
    "error field before content": Row(
        stream=Fault(
            does=lambda speech: [
                stream(*speech.opening, b'error: {"code":500,"message":"no slot"}\n\n')
            ],
            cells=BEFORE,
        ),
        whole=NOT_IN_ONE_PIECE,
    ),
    "error field after content": Row(
        stream=after_content(
            lambda speech: begun(speech, b'error: {"code":500,"message":"no slot"}\n\n', ended=True)
        ),
        whole=NOT_IN_ONE_PIECE,
    ),
    "HTML": both(
        lambda _: [(Send(response(200, b"<html>", ("content-type", "text/html"))),)], BEFORE
    ),
    "empty": either(
        lambda _: [(Send(response(200, b"", EVENTS)),)],
        lambda _: [as_json(b"")],
        BEFORE,
    ),
    "204": both(lambda _: [(Send(b"HTTP/1.1 204 No Content\r\n\r\n"),)], BEFORE),
    "gzip": Row(
        stream=Fault(
            does=lambda speech: [
                (
                    Send(
                        response(
                            200,
                            gzip.compress(b"".join(speech.story)),
                            EVENTS,
                            ("content-encoding", "gzip"),
                        )
                    ),
                )
            ],
            cells=BEFORE,
        ),
        whole=Fault(
            does=lambda speech: [
                as_json(gzip.compress(body(speech)), 200, ("content-encoding", "gzip"))
            ],
            cells=BEFORE,
        ),
    ),
    "wrong content type": Row(
        stream=Fault(
            does=lambda speech: [
                (Send(response(200, b"".join(speech.story), ("content-type", "text/html"))),)
            ],
            cells=BEFORE,
        ),
        whole=Fault(does=lambda speech: [speech.good], cells=BEFORE),
    ),
    "no content type": Row(
        stream=Fault(
            does=lambda speech: [(Send(response(200, b"".join(speech.story))),)], cells=BEFORE
        ),
        whole=Fault(
            does=lambda speech: [(Send(response(200, body(speech))),)], cells=HARMLESS, keeps=True
        ),
    ),
}

# -- answers that end too early, or never ----------------------------------------------------------

ENDS = {
    "no event at all": Row(
        stream=Fault(does=lambda _: [stream()], cells=BEFORE), whole=NOT_IN_ONE_PIECE
    ),
    "[DONE] and nothing else": Row(
        stream=Fault(does=lambda _: [stream(DONE)], cells=BEFORE), whole=NOT_IN_ONE_PIECE
    ),
    "cut before content, with a clean end": Row(
        stream=Fault(does=lambda speech: [stream(*speech.opening)], cells=BEFORE),
        whole=NOT_IN_ONE_PIECE,
    ),
    "cut before content, without one": Row(
        stream=Fault(
            does=lambda speech: [(*stream(*speech.opening, ended=False), Close())], cells=BEFORE
        ),
        whole=NOT_IN_ONE_PIECE,
    ),
    "cut with a clean end": Row(
        stream=after_content(lambda speech: begun(speech, ended=True)),
        whole=Fault(
            does=lambda speech: [
                (
                    Send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
                    Send(chunked(body(speech)[:20]) + END),
                )
            ],
            cells=BEFORE,
        ),
    ),
    "cut without a clean end": Row(
        stream=after_content(lambda speech: (*begun(speech), Close())),
        whole=Fault(does=lambda speech: [(Send(head(1000) + body(speech)), Close())], cells=BEFORE),
    ),
    "half-closed in the middle": Row(
        stream=after_content(lambda speech: (*begun(speech), HalfClose(), Silence())),
        whole=Fault(
            does=lambda speech: [(Send(head(1000) + body(speech)), HalfClose(), Silence())],
            cells=BEFORE,
        ),
    ),
    "reset in the middle": Row(
        stream=after_content(lambda speech: (*begun(speech), Pause(0.02), Reset())),
        whole=Fault(
            does=lambda speech: [(Send(head(1000) + body(speech)), Pause(0.02), Reset())],
            cells=BEFORE,
        ),
    ),
    "bad chunk size in the middle": Row(
        stream=after_content(lambda speech: (*begun(speech), Send(b"zz\r\n"), Close())),
        whole=Fault(
            does=lambda _: [
                (
                    Send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
                    Close(),
                )
            ],
            cells=BEFORE,
        ),
    ),
    "[DONE] without a finish reason": Row(
        stream=after_content(lambda speech: begun(speech, speech.last or DONE, ended=True)),
        whole=NOT_IN_ONE_PIECE,
    ),
    "stall": Row(
        stream=after_content(lambda speech: (*begun(speech), Silence()), waits="idle"),
        whole=Fault(
            does=lambda speech: [(Send(head(1000) + body(speech)), Silence())],
            cells=OUT_OF_TIME,
            waits="total",
        ),
    ),
    "stall with comments": Row(
        stream=after_content(
            lambda speech: (*begun(speech), *[Send(chunked(b": ping\n\n")), Pause(0.02)] * 500),
            waits="idle",
        ),
        whole=NOT_IN_ONE_PIECE,
    ),
    "empty events for ever": Row(
        stream=Fault(
            does=lambda speech: [stream(*speech.begun, *[speech.say(""), Pause(0.02)] * 500)],
            # It is never silent, so its whole time passes: then nobody else has any.
            cells=Cells(one=Broken(), two=Broken(), fallback=Broken()),
            waits="total",
        ),
        whole=NOT_IN_ONE_PIECE,
    ),
    "slow first token, too slow": Row(
        stream=Fault(
            does=lambda speech: [(*stream(*speech.opening, ended=False), Silence())],
            cells=SILENT,
            waits="first_token",
        ),
        whole=NOT_IN_ONE_PIECE,
    ),
    "comments in place of a first token": Row(
        stream=Fault(
            does=lambda _: [stream(*[b": keep-alive\n\n", Pause(0.02)] * 500)],
            cells=SILENT,
            waits="first_token",
        ),
        whole=NOT_IN_ONE_PIECE,
    ),
    "empty events in place of a first token": Row(
        stream=Fault(
            does=lambda speech: [stream(*speech.opening, *[speech.say(""), Pause(0.02)] * 500)],
            cells=SILENT,
            waits="first_token",
        ),
        whole=NOT_IN_ONE_PIECE,
    ),
    "slow first token, in time": Row(
        stream=Fault(
            does=lambda speech: [
                stream(*speech.opening, Pause(0.1), speech.say(SAID), *speech.ending)
            ],
            cells=HARMLESS,
            keeps=True,
        ),
        whole=Fault(does=lambda speech: [(Pause(0.1), *speech.answer)], cells=HARMLESS, keeps=True),
    ),
    "missing [DONE]": Row(
        stream=Fault(
            does=lambda speech: [stream(*speech.begun, speech.say(" upon"), *speech.finish)],
            cells=HARMLESS,
            keeps=True,
        ),
        whole=NOT_IN_ONE_PIECE,
    ),
    "missing [DONE], and no clean end": Row(
        stream=Fault(
            does=lambda speech: [
                (
                    *stream(*speech.begun, speech.say(" upon"), *speech.finish, ended=False),
                    Pause(0.02),
                    Reset(),
                )
            ],
            cells=HARMLESS,
        ),
        whole=NOT_IN_ONE_PIECE,
    ),
    "missing [DONE], and no end": Row(
        stream=Fault(
            does=lambda speech: [
                (
                    *stream(*speech.begun, speech.say(" upon"), *speech.finish, ended=False),
                    Silence(),
                )
            ],
            cells=HARMLESS,
            waits="idle",
        ),
        whole=NOT_IN_ONE_PIECE,
    ),
    "no clean end behind the last event": Row(
        stream=Fault(
            does=lambda speech: [(*stream(*speech.story, ended=False), Pause(0.02), Reset())],
            cells=HARMLESS,
        ),
        whole=NOT_IN_ONE_PIECE,
    ),
    "no end behind the last event": Row(
        stream=Fault(
            does=lambda speech: [(*stream(*speech.story, ended=False), Silence())],
            cells=HARMLESS,
            waits="idle",
        ),
        whole=NOT_IN_ONE_PIECE,
    ),
}

# -- sizes and paces -------------------------------------------------------------------------------

SIZES = {
    "huge event": Row(
        stream=Fault(
            does=lambda speech: [
                stream(*speech.opening, speech.say("x" * (4 << 20)), *speech.ending)
            ],
            cells=HARMLESS,
            said="x" * (4 << 20),
            keeps=True,
        ),
        whole=Fault(
            does=lambda speech: [reply(speech.whole("x" * LARGE))],
            cells=HARMLESS,
            said="x" * LARGE,
            model=ENGINE_MODEL,  # it is handed on before the gateway has seen all of it
        ),
    ),
    "event without an end": Row(
        stream=after_content(lambda speech: (*begun(speech, *[b"x" * (1 << 20)] * 18), Silence())),
        whole=NOT_IN_ONE_PIECE,
    ),
    "huge answer that is cut": Row(
        stream=NO_STREAM,
        whole=Fault(
            does=lambda speech: [
                (Send(head(LARGE + 1000) + json.dumps(speech.whole("x" * LARGE)).encode()), Close())
            ],
            cells=Cells(one=Broken(cut=True), two=Broken(cut=True), fallback=Broken(cut=True)),
        ),
    ),
    "slow drip": Row(
        stream=Fault(
            does=lambda speech: [
                (
                    Send(STREAM_HEAD),
                    Drip(chunked(b"".join(speech.story)) + END, 40, 0.01),
                )
            ],
            cells=HARMLESS,
        ),
        whole=Fault(
            does=lambda speech: [(Drip(speech.answer[0].data, 20, 0.005),)],
            cells=HARMLESS,
            keeps=True,
        ),
    ),
    "byte by byte": Row(
        stream=Fault(
            does=lambda speech: [
                (
                    Send(STREAM_HEAD.replace(b"transfer-encoding: chunked", b"connection: close")),
                    Drip(b"".join((b": hi\n\n", *speech.story)), 1),
                    Close(),
                )
            ],
            cells=HARMLESS,
        ),
        whole=Fault(
            does=lambda speech: [(Drip(speech.answer[0].data, 1),)], cells=HARMLESS, keeps=True
        ),
    ),
}

FAULTS: dict[str, Row] = {**CONNECTION, **STATUSES, **BROKEN_ANSWERS, **ENDS, **SIZES}

CORE = (
    "refuse",
    "reset before headers",
    "silence",
    "429 without Retry-After",
    "500 once",
    "503 forever",
    "truncated JSON",
    "malformed event",
    "malformed event after content",
    "error object with 200",
    "error object after content",
    "cut before content, without one",
    "cut with a clean end",
    "cut without a clean end",
    "reset in the middle",
    "[DONE] without a finish reason",
    "stall",
    "missing [DONE]",
    "missing [DONE], and no clean end",
    "slow drip",
    "gzip",
)
"""The faults that every dialect goes through; a chat goes through all."""

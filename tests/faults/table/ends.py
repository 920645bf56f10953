"""Answers that end too early, or never."""

from __future__ import annotations

from tests.faults.outcomes import BEFORE, HARMLESS, OUT_OF_TIME, SILENT, Broken, Cells
from tests.faults.speech import SAID
from tests.faults.table.answers import begun, body, head
from tests.faults.table.row import NOT_IN_ONE_PIECE, Fault, Row, after_content
from tests.support.upstream import (
    DONE,
    END,
    Close,
    HalfClose,
    Pause,
    Reset,
    Send,
    Silence,
    chunked,
    stream,
)

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

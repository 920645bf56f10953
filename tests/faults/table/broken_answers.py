"""Answers that are none."""

from __future__ import annotations

import gzip

from tests.faults.outcomes import BEFORE, HARMLESS
from tests.faults.table.answers import EVENTS, as_json, begun, body
from tests.faults.table.row import NOT_IN_ONE_PIECE, Fault, Row, after_content, both, either
from tests.support.upstream import DONE, Send, reply, response, stream

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

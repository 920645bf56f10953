"""Answers of unusual size or pace."""

from __future__ import annotations

import json

from tests.faults.outcomes import HARMLESS, Broken, Cells
from tests.faults.table.answers import begun, head
from tests.faults.table.row import NO_STREAM, NOT_IN_ONE_PIECE, Fault, Row, after_content
from tests.support.upstream import (
    END,
    STREAM_HEAD,
    Close,
    Drip,
    Send,
    Silence,
    chunked,
    reply,
    stream,
)

LARGE = 9 << 20
"""Characters: an answer in one piece that is longer than the gateway holds back."""

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

"""What of a stream of a response is known when it breaks."""

from __future__ import annotations

import pytest

from gateway.wire.response_progress import ResponseProgress
from tests.support.upstream import event

BEGUN = event("response.created", sequence_number=0, response={"id": "r"})
WORD = event("response.output_text.delta", sequence_number=4, delta="Once")


def progress(*pieces: bytes) -> ResponseProgress:
    told = ResponseProgress()
    for piece in pieces:
        told.note(piece)
    return told


@pytest.mark.parametrize(
    ("pieces", "number"),
    [
        ((), None),
        ((BEGUN,), 0),
        ((BEGUN, WORD), 4),
        ((BEGUN + WORD,), 4),
        ((BEGUN, b": ping\n\n"), 0),
        ((BEGUN, b": ping\n\n" + WORD), 4),
        ((BEGUN, WORD + event("response.output_text.delta", delta="no number")), 4),
        ((BEGUN, event("response.output_text.delta", delta="no number")), None),
        ((BEGUN, event("other", sequence_number="4")), None),
        ((BEGUN, b"data: [DONE]\n\n"), None),
        ((BEGUN, b"data: {torn\n\n"), None),
    ],
)
def test_the_number_of_the_last_event(pieces, number):
    assert progress(*pieces).number == number


@pytest.mark.parametrize(
    ("pieces", "response"),
    [
        ((), None),
        ((WORD,), None),
        ((b": hello\n\n", BEGUN, WORD), {"id": "r"}),
        ((BEGUN + WORD, event("response.in_progress", response={"id": "later"})), {"id": "r"}),
        ((event("response.created", response={"instructions": "x" * (1 << 18)}),), None),
    ],
)
def test_the_response_as_it_began(pieces, response):
    assert progress(*pieces).response == response

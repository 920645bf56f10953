from __future__ import annotations

import pytest

from backends.assemble import BrokenStreamError, EngineSaysError
from backends.assemble.responses import ResponsesAssembler
from tests.support.upstream import event

WHOLE = {"id": "resp_1", "object": "response", "status": "completed", "output": [{"id": "msg_1"}]}


CREATED = event("response.created", response={"id": "resp_1", "status": "in_progress"})
DELTA = event("response.output_text.delta", delta="Hi")


def assemble(*blocks):
    assembler = ResponsesAssembler()
    for block in blocks:
        assembler.feed(block)
    return assembler.answer()


@pytest.mark.parametrize("blocks", [[], [CREATED, DELTA], [CREATED, b"data: [DONE]\n\n"]])
def test_a_stream_without_its_end_is_no_answer(blocks):
    with pytest.raises(BrokenStreamError, match=r"without response\.completed"):
        assemble(*blocks)


@pytest.mark.parametrize("response", [3, [], None])
def test_an_end_without_a_response_is_no_answer(response):
    with pytest.raises(BrokenStreamError, match="malformed"):
        assemble(CREATED, event("response.completed", response=response))


def test_an_end_that_lacks_the_response_is_no_answer():
    with pytest.raises(BrokenStreamError, match="malformed"):
        assemble(CREATED, event("response.completed"))


@pytest.mark.parametrize(
    "block",
    [
        event("response.failed", response={"error": {"code": "server_error", "message": "boom"}}),
        event("error", message="boom", code="server_error"),
        b'data: {"error":{"message":"boom","code":"server_error"}}\n\n',
    ],
)
def test_an_error_inside_the_stream_is_told(block):
    with pytest.raises(EngineSaysError, match="boom") as caught:
        assemble(CREATED, block)
    assert caught.value.said.code == "server_error"


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete"])
def test_the_last_event_holds_the_answer(kind):
    assert assemble(CREATED, DELTA, event(kind, response=WHOLE, timings={})) == WHOLE

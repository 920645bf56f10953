from __future__ import annotations

import contextlib
import json

import pytest

from backends.assemble import BrokenStreamError, EngineSaysError
from backends.assemble.messages import MessagesAssembler
from tests.support.upstream import event

START = event(
    "message_start",
    message={
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "m",
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"cache_read_input_tokens": 13, "input_tokens": 1, "output_tokens": 0},
    },
)
STOP = event("message_stop")


def begin(index, **block) -> bytes:
    return event("content_block_start", index=index, content_block=block)


def piece(index, kind, **fields) -> bytes:
    return event("content_block_delta", index=index, delta={"type": kind, **fields})


def end(reason="end_turn", sequence=None) -> bytes:
    delta = {"stop_reason": reason, "stop_sequence": sequence}
    return event("message_delta", delta=delta, usage={"output_tokens": 7}) + STOP


def assemble(*blocks):
    assembler = MessagesAssembler()
    for block in blocks:
        assembler.feed(block)
    return assembler.answer()


@pytest.mark.parametrize("blocks", [[], [START], [START, begin(0, type="text", text=""), STOP]])
def test_a_stream_without_its_end_is_no_answer(blocks):
    with pytest.raises(BrokenStreamError, match="without a stop reason"):
        assemble(*blocks)


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (piece(3, "text_delta", text="x"), "block 3, which has not begun"),
        (begin(0, type="text") + piece(0, "text_delta"), "a text_delta without text"),
        (b'event: x\ndata: {"type":"message_del\n\n', "malformed"),
    ],
)
def test_events_that_make_no_sense_are_no_answer(block, reason):
    with pytest.raises(BrokenStreamError, match=reason):
        assemble(START, block)


@pytest.mark.parametrize(
    "data",
    [
        {"type": "error", "error": {"type": "overloaded_error", "message": "too busy"}},
        {"code": 500, "type": "overloaded_error", "message": "too busy"},  # llama-server's
    ],
)
def test_an_error_inside_the_stream_is_told(data):
    with pytest.raises(EngineSaysError, match="too busy") as caught:
        assemble(START, f"event: error\ndata: {json.dumps(data)}\n\n".encode())
    assert caught.value.said.type == "overloaded_error"


def test_blocks_come_together_by_index():
    answer = assemble(
        START,
        begin(0, type="thinking", thinking=""),
        piece(0, "thinking_delta", thinking="h"),
        piece(0, "thinking_delta", thinking="m") + piece(0, "signature_delta", signature=""),
        begin(1, type="text", text=""),
        event("ping"),
        piece(1, "text_delta", text="3 + 4"),
        begin(1, type="text", text=""),  # once more, before the last piece
        piece(1, "text_delta", text=" "),
        event("content_block_stop", index=1),
        end(sequence="="),
    )
    assert answer == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": ""},
            {"type": "text", "text": "3 + 4 "},
        ],
        "model": "m",
        "stop_reason": "end_turn",
        "stop_sequence": "=",
        "usage": {"cache_read_input_tokens": 13, "input_tokens": 1, "output_tokens": 7},
    }


@pytest.mark.parametrize(
    ("pieces", "given"),
    [
        (['{"ci', 'ty": "Rome"}'], {"city": "Rome"}),
        ([], {}),
        (['{"city": "Ro'], {}),  # cut off by max_tokens
    ],
)
def test_the_input_of_a_tool_is_an_object(pieces, given):
    answer = assemble(
        START,
        begin(0, type="tool_use", id="t1", name="weather"),
        *[piece(0, "input_json_delta", partial_json=one) for one in pieces],
        end("tool_use"),
    )
    assert answer["content"] == [
        {"type": "tool_use", "id": "t1", "name": "weather", "input": given}
    ]


@pytest.mark.parametrize(
    "odd",
    [
        piece(0, ["text_delta"], text="x"),
        event("content_block_delta", index=0),
        piece(0, "text_delta", text="x").replace(b'"x"', b'["x"]'),
        begin(1, type="text", text=5) + piece(1, "text_delta", text="x"),
        begin(1, type="text", citations=5) + piece(1, "citations_delta", citation={}),
        begin(1, type="tool_use") + piece(1, "input_json_delta", partial_json="[" * 9999),
        event("message_start", message={"usage": [1]}) + end(),
        b'data: {"x":' + b"[" * 100_000 + b"\n\n",
    ],
)
def test_an_odd_event_is_passed_over_or_told_and_never_a_crash(odd):
    with contextlib.suppress(BrokenStreamError):
        assert assemble(START, begin(0, type="text", text=""), odd, end())["content"]


def test_an_answer_may_be_empty():
    assert assemble(START, end())["content"] == []

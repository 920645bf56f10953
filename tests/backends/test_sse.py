from __future__ import annotations

import pytest

from backends.sse import MAX_EVENT, EventCutter, EventTooLargeError, events, is_event_stream

STREAM = b': hi\n\ndata: {"a":1}\n\nevent: e\ndata: x\ndata: y\n\n\n\ndata:z\n\n'


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_wherever_the_stream_is_split_the_events_are_the_same(line_end):
    stream = STREAM.replace(b"\n", line_end)
    for split in range(len(stream) + 1):
        cutter = EventCutter()
        blocks = [cutter.feed(stream[:split]), cutter.feed(stream[split:])]
        assert b"".join(blocks) == stream
        found = [(name, data) for block in blocks for name, data, _ in events(block)]
        assert found == [(b"", b'{"a":1}'), (b"e", b"x\ny"), (b"", b"z")]


def test_a_block_always_ends_with_an_event():
    cutter = EventCutter()
    blocks = [cutter.feed(bytes([byte])) for byte in STREAM]
    assert all(not block or block.endswith(b"\n\n") for block in blocks[:-1])
    assert cutter.rest == b""


def test_what_never_ends_is_held_back_and_known():
    cutter = EventCutter()
    assert cutter.feed(b"data: a\n\ndata: b\n") == b"data: a\n\n"
    assert cutter.rest == b"data: b\n"


def test_an_event_without_end_is_an_error_and_not_memory():
    cutter = EventCutter()
    for _ in range(MAX_EVENT // (1 << 20)):
        assert cutter.feed(b"x" * (1 << 20)) == b""
    with pytest.raises(EventTooLargeError, match="longer than 16 MiB"):
        cutter.feed(b"x")


def test_an_error_field_is_an_error_event():
    assert [(n, d) for n, d, _ in events(b'error: {"code":1}\n\n')] == [(b"error", b'{"code":1}')]


@pytest.mark.parametrize(
    ("value", "is_stream"),
    [
        (b"text/event-stream", True),
        (b"text/event-stream; charset=utf-8", True),
        (b"Text/Event-Stream ;charset=utf-8", True),
        (b"text/event-streams", False),
        (b"application/json", False),
    ],
)
def test_a_stream_is_known_by_its_media_type(value, is_stream):
    assert is_event_stream([(b"date", b"x"), (b"content-type", value)]) is is_stream
    assert not is_event_stream([])

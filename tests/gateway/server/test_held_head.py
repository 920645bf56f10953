from __future__ import annotations

import asyncio

import pytest

from gateway.server.held_head import HeldHead

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx: y\r\n\r\n"


class Written(asyncio.Transport):
    """A transport that remembers."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data):
        self.writes.append(bytes(data))

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed

    def pause_reading(self): ...

    def resume_reading(self): ...

    def get_write_buffer_size(self):
        return 0


@pytest.fixture
def below():
    return Written()


@pytest.fixture
def transport(below):
    return HeldHead(below)


def test_a_head_goes_out_with_what_follows(transport, below):
    transport.write(HEAD)
    assert below.writes == []
    transport.write(b"body")
    transport.write(b"more")
    assert below.writes == [HEAD + b"body", b"more"]


def test_an_interim_response_does_not_wait(transport, below):
    transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert below.writes == [b"HTTP/1.1 100 Continue\r\n\r\n"]


@pytest.mark.parametrize("end", ["flush", "close"])
def test_a_head_without_a_body_is_not_forgotten(transport, below, end):
    transport.write(HEAD)
    getattr(transport, end)()
    assert below.writes == [HEAD]
    assert below.closed == (end == "close")


def test_chunks_are_unframed_for_an_old_client(transport, below):
    transport.speak_plainly()
    transport.write(CHUNKED)
    transport.write(b"5\r\nhello\r\n")
    transport.write(b"c\r\n: transfer-en\r\n0\r\n\r\n")
    assert (
        b"".join(below.writes)
        == CHUNKED.replace(b"transfer-encoding: chunked\r\n", b"")
        + b"hello"
        + b": transfer-en"[:12]
    )


def test_a_body_of_known_length_is_left_alone(transport, below):
    body = b"5\r\nhello\r\ntransfer-encoding: chunked\r\n"
    transport.speak_plainly()
    transport.write(HEAD)
    transport.write(body)
    assert below.writes == [HEAD + body]

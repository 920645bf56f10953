"""What counts as an answer, whichever way its bytes are cut, and who waits for whom."""

from __future__ import annotations

import asyncio
import os

import httpx
import pytest

from backends.transport.connection import MAX_HEAD, Connection
from tests.support.exchanges import OK, ask, eventually, fetch

REQUEST = b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


class Owner:
    def __init__(self):
        self.free, self.gone = [], []

    def release(self, connection):
        self.free.append(connection)

    def lost(self, connection):
        self.gone.append(connection)


class Wire(asyncio.Transport):
    """The event loop's end: what is written is kept, closing tells the protocol as a loop does."""

    def __init__(self, protocol):
        super().__init__()
        self.protocol, self.written, self.open, self.reading = protocol, b"", True, True
        protocol.connection_made(self)

    def write(self, data):
        self.written += data

    def abort(self):
        if self.open:
            self.open = False
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True


class Line:
    """A connection, the event loop's end of it and its owner."""

    def __init__(self):
        self.owner = Owner()
        self.connection = Connection(self.owner, asyncio.get_running_loop())
        self.wire = Wire(self.connection)

    async def answer(self, *pieces, eof=False, error=None, **options):
        """Ask, receive `pieces`, and perhaps the end of the connection; the answer in full."""
        asking = asyncio.create_task(self.connection.exchange(REQUEST, b"", **options))
        await asyncio.sleep(0)
        for piece in pieces:
            if self.wire.open:
                self.connection.data_received(piece)
        if eof and self.wire.open and not self.connection.eof_received():
            self.wire.abort()
        if error is not None:
            self.connection.connection_lost(error)
        exchange = await asyncio.wait_for(asking, 1)
        body = b"".join([piece async for piece in exchange])
        return exchange.status, exchange.headers, body


def each_byte(data):
    return [data[i : i + 1] for i in range(len(data))]


ANSWERS = {
    "content-length": (HEAD + b"Content-Length: 5\r\nX-A: b\r\n\r\nhello", 200, b"hello"),
    "empty": (HEAD + b"content-length: 0\r\n\r\n", 200, b""),
    "chunked": (CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", 200, b"hello"),
    "chunk extension": (CHUNKED + b'5;a=b;c="d"\r\nhello\r\n0\r\n\r\n', 200, b"hello"),
    "upper-case chunk size": (CHUNKED + b"A\r\n0123456789\r\n0\r\n\r\n", 200, b"0123456789"),
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n", 200, b"hello"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", 304, b""),
    "interim": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
        + HEAD
        + b"content-length: 5\r\n\r\nhello",
        200,
        b"hello",
    ),
    "no reason": (b"HTTP/1.1 503\r\ncontent-length: 2\r\n\r\nno", 503, b"no"),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_is_the_same_whole_and_byte_by_byte(name):
    data, status, body = ANSWERS[name]
    for pieces in ([data], each_byte(data)):
        line = Line()
        got = await line.answer(*pieces)
        assert (got[0], got[2]) == (status, body)
        assert line.owner.free == [line.connection]


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_may_be_cut_in_two_anywhere(name):
    data, status, body = ANSWERS[name]
    line = Line()  # and one connection serves them all
    for cut in range(1, len(data)):
        got = await line.answer(data[:cut], data[cut:])
        assert (got[0], got[2]) == (status, body)


@pytest.mark.parametrize("name", ["content-length", "chunked", "trailers", "interim", "no reason"])
async def test_a_cut_answer_never_ends_well(name):
    data, *_ = ANSWERS[name]
    for end in range(len(data)):
        with pytest.raises(httpx.ReadError):
            await Line().answer(data[:end], eof=True)
        with pytest.raises(httpx.ReadError, match="gone"):
            await Line().answer(data[:end], error=ConnectionResetError("gone"))


async def test_header_names_are_lower_case_and_values_untouched():
    _, headers, _ = await Line().answer(
        HEAD + b"X-One: A b\r\nSet-Cookie: 1\r\nset-cookie: 2\r\ncontent-length: 0\r\n\r\n"
    )
    assert headers == [
        (b"x-one", b"A b"),
        (b"set-cookie", b"1"),
        (b"set-cookie", b"2"),
        (b"content-length", b"0"),
    ]


async def test_trailers_are_dropped():
    _, headers, _ = await Line().answer(ANSWERS["trailers"][0])
    assert headers == [(b"transfer-encoding", b"chunked")]


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_body_may_last_until_the_connection_closes(version):
    line = Line()
    head = b"HTTP/" + version + b" 200 OK\r\n\r\n"
    assert (await line.answer(head, b"hel", b"lo", eof=True))[2] == b"hello"
    assert line.owner.free == []


async def test_a_body_that_lasts_until_close_is_cut_by_a_reset():
    with pytest.raises(httpx.ReadError, match="cut short"):
        await Line().answer(HEAD + b"\r\n", b"hel", error=ConnectionResetError("gone"))


async def test_head_has_no_body_whatever_its_length():
    line = Line()
    got = await line.answer(HEAD + b"content-length: 5\r\n\r\n", bodiless=True)
    assert (got[0], got[2]) == (200, b"")
    assert not line.wire.open


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="not http"),
        pytest.param(b"HTTP/1.1 abc\r\n\r\n", id="status"),
        pytest.param(HEAD + b"no colon\r\n\r\n", id="header"),
        pytest.param(HEAD + b"content-length: five\r\n\r\n", id="length"),
        pytest.param(HEAD + b"content-length: -1\r\n\r\n", id="negative length"),
        pytest.param(HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab", id="two lengths"),
        pytest.param(
            HEAD + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            id="length and chunked",
        ),
        pytest.param(CHUNKED + b"zz\r\nhello\r\n", id="chunk size"),
        pytest.param(CHUNKED + b"2\r\nhello\r\n", id="chunk longer than its size"),
        pytest.param(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
            id="upgrade",
        ),
    ],
)
async def test_what_is_not_http_is_an_error_and_closes(data):
    for pieces in ([data], each_byte(data)):
        line = Line()
        with pytest.raises(httpx.RemoteProtocolError, match=r"not a valid HTTP answer: \w"):
            await line.answer(*pieces)
        assert not line.wire.open


@pytest.mark.parametrize(
    ("start", "more"),
    [
        pytest.param(HEAD, b"x-pad: %s\r\n" % (b"a" * 1000), id="many headers"),
        pytest.param(HEAD + b"x-pad: ", b"a" * 1000, id="one long header"),
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n", id="interim answers for ever"),
        pytest.param(CHUNKED + b"1;", b"a" * 1000, id="chunk extension for ever"),
        pytest.param(CHUNKED + b"0\r\n", b"x-pad: %s\r\n" % (b"a" * 1000), id="trailers for ever"),
    ],
)
async def test_framing_without_end_is_refused(start, more):
    line = Line()
    with pytest.raises(httpx.RemoteProtocolError, match=f"more than {MAX_HEAD} bytes"):
        await line.answer(start, *[more] * (2 * MAX_HEAD // len(more)))
    assert not line.wire.open


async def test_a_head_too_large_is_refused_also_when_it_comes_at_once():
    head = HEAD + b"x-pad: a\r\n" * (MAX_HEAD // 8) + b"content-length: 0\r\n\r\n"
    with pytest.raises(httpx.RemoteProtocolError, match=f"more than {MAX_HEAD} bytes"):
        await Line().answer(head)


async def test_a_large_body_in_one_read_with_its_head_is_fine():
    body = bytes(4 * MAX_HEAD)
    got = await Line().answer(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
    assert got[2] == body


async def test_a_closed_connection_takes_no_request():
    line = Line()
    line.connection.abort()
    with pytest.raises(httpx.ReadError, match="closed before"):
        await line.connection.exchange(REQUEST, b"")


class TestBackPressure:
    @pytest.mark.slow
    async def test_a_slow_reader_stops_the_engine(self, transport, start_peer, step):
        size = 64 << 20
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size
        async with start_peer([step.READ, head, bytes(size), step.HANG]) as peer:
            response = await transport.handle_async_request(ask(peer.url))
            stalled, before = 0, -1
            while stalled < 20:  # until nothing has moved for a while
                await asyncio.sleep(0.02)
                stalled = stalled + 1 if peer.written == before else 0
                before = peer.written
            assert response.stream.buffered < 1 << 20
            assert peer.written < 16 << 20  # what the two sockets' buffers hold
            total, largest = 0, 0
            async for piece in response.stream:
                total += len(piece)
                largest = max(largest, len(piece))
            assert total == size
            assert largest < 1 << 20
            assert transport.idle == 1
            await transport.aclose()

    async def test_a_large_request_waits_for_a_slow_engine(self, transport, start_peer, step):
        body = os.urandom(1 << 20) * 20
        script = [step.READ_HEAD, step.STALL, step.READ, OK]
        async with start_peer(script) as peer:
            asking = asyncio.create_task(fetch(transport, ask(peer.url, body)))
            await eventually(lambda: peer.requests)
            await asyncio.sleep(0.1)
            (pool,) = transport._pools.values()
            (connection,) = pool._open
            assert connection._transport.get_write_buffer_size() < 1 << 20
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            peer.go.set()

    @pytest.mark.parametrize("size", [1, 65536, 65537, 20 << 20])
    async def test_a_request_of_any_size_arrives_whole(self, transport, start_peer, step, size):
        body = os.urandom(4096) * (size // 4096 + 1)
        body = body[:size]
        async with start_peer([step.READ, OK, step.LOOP]) as peer:
            for _ in range(2):
                assert await fetch(transport, ask(peer.url, body)) == (200, b"hi")
            assert peer.accepted == 1
            assert all(request.endswith(b"\r\n\r\n" + body) for request in peer.requests)
            await transport.aclose()

    async def test_a_refusal_comes_through_while_the_request_is_still_sent(
        self, transport, start_peer, step
    ):
        refusal = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig"
        async with start_peer([step.READ_HEAD, refusal, step.STALL]) as peer:
            status, body = await fetch(transport, ask(peer.url, bytes(32 << 20)))
            assert (status, body) == (413, b"big")
            await eventually(lambda: transport.connections == 0)

    async def test_after_a_refusal_the_rest_of_the_request_stays_unsent(
        self, transport, start_peer, step
    ):
        refusal = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbi"
        async with start_peer([step.READ_HEAD, refusal, step.STALL]) as peer:
            response = await transport.handle_async_request(ask(peer.url, bytes(32 << 20)))
            (pool,) = transport._pools.values()
            (connection,) = pool._open
            assert connection._transport.get_write_buffer_size() < 1 << 20
            await response.stream.aclose()
            await eventually(lambda: transport.connections == 0)

    async def test_a_peer_that_will_not_answer_is_sent_no_more(self, transport, start_peer, step):
        async with start_peer([step.READ_HEAD, step.EOF, step.STALL]) as peer:
            with pytest.raises(httpx.ReadError, match="without an answer"):
                await transport.handle_async_request(ask(peer.url, bytes(32 << 20)))
            await eventually(lambda: transport.connections == 0)

    async def test_an_interim_answer_does_not_stop_the_request(self, transport, start_peer, step):
        body = bytes(8 << 20)
        early = b"HTTP/1.1 102 Processing\r\n\r\n"
        async with start_peer([early, step.READ, OK, step.HANG]) as peer:
            assert await fetch(transport, ask(peer.url, body)) == (200, b"hi")
            assert peer.requests[0].endswith(body)
            await transport.aclose()

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import ssl

import httpx
import pytest
import trustme

from backends.transport import PoolLimits, Transport
from backends.transport.connection import UnansweredError
from backends.transport.transport import RACE_WINDOW

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
JSON = [(b"content-type", b"application/json")]


def ask(url, body=b"{}", *, method="POST", headers=(), timeout=None, uds=None):
    headers = [(b"host", b"engine"), *JSON, *headers, (b"content-length", b"%d" % len(body))]
    timeout = timeout or {"connect": 5.0, "pool": 5.0}
    return httpx.Request(
        method,
        url,
        headers=headers,
        stream=httpx.ByteStream(body),
        extensions={"timeout": timeout, "uds": uds},
    )


async def read(response):
    return b"".join([piece async for piece in response.stream])


async def fetch(transport, request):
    response = await transport.handle_async_request(request)
    return response.status_code, await read(response)


async def eventually(condition, within=2.0):  # well below the pool's own idle_expiry
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.005)


def sockets():
    return sum(
        os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}") or os.path.islink(f"/proc/self/fd/{fd}")
    )


class TestExchange:
    async def test_request_and_answer_are_what_was_said(self, transport, start_peer, step):
        async with start_peer([step.READ, OK, step.LOOP]) as peer:
            request = ask(peer.url + "/v1/chat/completions?x=1", b'{"a": 1}')
            response = await transport.handle_async_request(request)
            assert response.status_code == 200
            assert response.headers.raw == [(b"content-length", b"2")]
            assert await read(response) == b"hi"
            await transport.aclose()
        assert peer.requests == [
            b"POST /v1/chat/completions?x=1 HTTP/1.1\r\nhost: engine\r\n"
            b'content-type: application/json\r\ncontent-length: 8\r\n\r\n{"a": 1}'
        ]

    async def test_it_is_a_transport_for_httpx_clients_too(self, transport, start_peer, step):
        async with start_peer([step.READ, OK, step.LOOP]) as peer:
            client = httpx.AsyncClient(transport=transport)
            for _ in range(3):
                assert (await client.post(peer.url, json={"a": 1})).text == "hi"
            assert peer.accepted == 1
            await client.aclose()

    async def test_pieces_come_as_they_arrive(self, transport, start_peer, step):
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        script = [
            step.READ,
            head + b"3\r\none\r\n",
            step.STALL,
            b"3\r\ntwo\r\n0\r\n\r\n",
            step.HANG,
        ]
        async with start_peer(script) as peer:
            response = await transport.handle_async_request(ask(peer.url))
            pieces = aiter(response.stream)
            assert await anext(pieces) == b"one"
            peer.go.set()
            assert await anext(pieces) == b"two"
            with pytest.raises(StopAsyncIteration):
                await anext(pieces)
            assert transport.idle == 1
            await transport.aclose()

    async def test_a_header_with_a_line_break_is_never_sent(self, transport, start_peer, step):
        async with start_peer([step.READ, OK]) as peer:
            for bad in (b"a\r\nx: y", b"a\nx: y", b"a\rx", b"a\0b"):
                with pytest.raises(httpx.LocalProtocolError):
                    await transport.handle_async_request(ask(peer.url, headers=[(b"x-id", bad)]))
            assert peer.accepted == 0

    async def test_a_url_that_is_not_http_is_refused(self, transport):
        with pytest.raises(httpx.UnsupportedProtocol):
            await transport.handle_async_request(ask("ftp://127.0.0.1/"))

    async def test_a_body_that_is_not_bytes_is_refused(self, transport):
        async def body():
            yield b"x"

        with pytest.raises(TypeError, match="must be bytes"):
            await transport.handle_async_request(
                httpx.Request("POST", "http://127.0.0.1:1/", content=body())
            )


class TestKeepAlive:
    async def test_a_connection_is_used_again(self, transport, start_peer, step):
        async with start_peer([step.READ, OK, step.LOOP]) as peer:
            for _ in range(5):
                assert await fetch(transport, ask(peer.url)) == (200, b"hi")
            assert (peer.accepted, transport.connections, transport.idle) == (1, 1, 1)
            await transport.aclose()

    async def test_a_body_nobody_reads_does_not_hold_the_connection(
        self, transport, start_peer, step
    ):
        async with start_peer([step.READ, OK, step.LOOP]) as peer:
            first = await transport.handle_async_request(ask(peer.url))
            assert await fetch(transport, ask(peer.url)) == (200, b"hi")
            assert peer.accepted == 1
            assert await read(first) == b"hi"
            await transport.aclose()

    async def test_a_close_after_the_answer_is_noticed_at_once(self, transport, start_peer, step):
        async with start_peer([step.READ, OK, step.CLOSE]) as peer:
            for expected in (1, 2, 3):
                assert await fetch(transport, ask(peer.url)) == (200, b"hi")
                await eventually(lambda: transport.connections == 0)
                assert peer.accepted == expected

    @pytest.mark.parametrize("end", ["CLOSE", "RESET"])
    async def test_a_connection_that_dies_under_a_request_is_replaced_unnoticed(
        self, transport, start_peer, step, end
    ):
        first = [step.READ, OK, step.READ, step[end]]
        async with start_peer(first, [step.READ, OK, step.LOOP]) as peer:
            for _ in range(3):
                assert await fetch(transport, ask(peer.url, b'{"n": 1}')) == (200, b"hi")
            assert peer.accepted == 2
            assert len(peer.requests) == 4
            await transport.aclose()

    async def test_a_close_that_crosses_the_request_is_unnoticed(self, start_peer, step):
        for _ in range(10):
            transport = Transport()
            crossing = [step.READ, OK, step.STALL, step.CLOSE]
            async with start_peer(crossing, [step.READ, OK, step.LOOP]) as peer:
                assert await fetch(transport, ask(peer.url)) == (200, b"hi")
                peer.go.set()  # it closes when the loop comes to it: after the request is written
                assert await fetch(transport, ask(peer.url)) == (200, b"hi")
                assert (peer.accepted, len(peer.requests)) == (2, 2)
                await transport.aclose()

    @pytest.mark.parametrize("end", ["CLOSE", "RESET"])
    async def test_an_engine_that_dies_at_its_work_is_asked_once(
        self, transport, start_peer, step, end
    ):
        dying = [step.READ, OK, step.READ, step.STALL, step[end]]
        async with start_peer(dying, [step.READ, OK, step.LOOP]) as peer:
            assert await fetch(transport, ask(peer.url)) == (200, b"hi")
            asking = asyncio.create_task(fetch(transport, ask(peer.url)))
            await eventually(lambda: len(peer.requests) == 2)
            await asyncio.sleep(0.5)
            peer.go.set()
            with pytest.raises(UnansweredError) as caught:
                await asking
            assert caught.value.after > RACE_WINDOW
            assert (peer.accepted, len(peer.requests)) == (1, 2)

    async def test_a_connection_closed_before_the_request_is_replaced_whatever_its_age(
        self, start_peer, step
    ):
        transport = Transport(limits=PoolLimits(max_connections=1))
        async with start_peer([step.HANG], [step.READ, OK, step.LOOP]) as peer:
            pool = transport.pool(httpx.URL(peer.url))
            busy = await pool.acquire(5, 5)
            asking = asyncio.create_task(fetch(transport, ask(peer.url)))
            await asyncio.sleep(0)
            pool.release(busy)  # to who asks, and lost before they can write
            busy.abort()
            assert await asking == (200, b"hi")
            await transport.aclose()

    async def test_where_nothing_was_written_a_failed_reconnect_is_a_failed_connect(
        self, start_peer, step, tmp_path
    ):
        path = tmp_path / "engine.sock"
        transport = Transport(limits=PoolLimits(max_connections=1))
        async with start_peer([step.HANG], path=path) as peer:
            url = httpx.URL(peer.url)
            pool = transport.pool(url, str(path))
            busy = await pool.acquire(5, 5)
            path.unlink()
            asking = asyncio.create_task(fetch(transport, ask(peer.url, uds=str(path))))
            await asyncio.sleep(0)
            pool.release(busy)
            busy.abort()
            with pytest.raises(httpx.ConnectError, match="no such socket"):
                await asking
            await transport.aclose()

    @pytest.mark.parametrize("end", ["CLOSE", "RESET"])
    async def test_a_new_connection_that_dies_is_not_replaced(
        self, transport, start_peer, step, end
    ):
        async with start_peer([step.READ, step[end]]) as peer:
            with pytest.raises(httpx.ReadError, match="without an answer"):
                await fetch(transport, ask(peer.url))
            assert peer.accepted == 1

    async def test_it_is_replaced_only_once(self, transport, start_peer, step):
        async with start_peer(
            [step.READ, OK, step.READ, step.CLOSE], [step.READ, step.CLOSE]
        ) as peer:
            assert await fetch(transport, ask(peer.url)) == (200, b"hi")
            with pytest.raises(httpx.ReadError):
                await fetch(transport, ask(peer.url))
            assert peer.accepted == 2

    async def test_after_a_byte_of_the_answer_nothing_is_repeated(
        self, transport, start_peer, step
    ):
        async with start_peer([step.READ, OK, step.READ, b"H", step.CLOSE]) as peer:
            assert await fetch(transport, ask(peer.url)) == (200, b"hi")
            with pytest.raises(httpx.ReadError, match="cut short"):
                await fetch(transport, ask(peer.url))
            assert (peer.accepted, len(peer.requests)) == (1, 2)

    async def test_a_restarted_engine_is_unnoticed(self, transport, start_peer, step, tmp_path):
        path = tmp_path / "engine.sock"
        for _ in range(3):
            path.unlink(missing_ok=True)
            async with start_peer([step.READ, OK, step.STALL], path=path) as peer:
                assert await fetch(transport, ask(peer.url, uds=str(path))) == (200, b"hi")

    async def test_a_reconnect_that_fails_does_not_claim_that_nothing_was_sent(
        self, transport, start_peer, step, tmp_path
    ):
        path = tmp_path / "engine.sock"
        async with start_peer(
            [step.READ, OK, step.READ, step.STALL, step.CLOSE], path=path
        ) as peer:
            assert await fetch(transport, ask(peer.url, uds=str(path))) == (200, b"hi")
            path.unlink()
            peer.go.set()
            with pytest.raises(httpx.ReadError, match="no such socket"):
                await fetch(transport, ask(peer.url, uds=str(path)))

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(
                b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi", id="close"
            ),
            pytest.param(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", id="http/1.0"),
            pytest.param(
                OK + b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nextra", id="two answers"
            ),
            pytest.param(OK + b"garbage", id="garbage after it"),
        ],
    )
    async def test_a_connection_that_cannot_be_trusted_again_is_closed(
        self, transport, start_peer, step, answer
    ):
        async with start_peer([step.READ, answer, step.HANG]) as peer:
            for expected in (1, 2):
                assert await fetch(transport, ask(peer.url)) == (200, b"hi")
                await eventually(lambda: transport.connections == 0)
                assert peer.accepted == expected

    async def test_an_answer_nobody_asked_for_closes_an_idle_connection(
        self, transport, start_peer, step
    ):
        poisoned = [
            step.READ,
            OK,
            step.STALL,
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            step.HANG,
        ]
        async with start_peer(poisoned, [step.READ, OK, step.HANG]) as peer:
            assert await fetch(transport, ask(peer.url)) == (200, b"hi")
            peer.go.set()
            await eventually(lambda: transport.connections == 0)
            assert await fetch(transport, ask(peer.url)) == (200, b"hi")
            await transport.aclose()


class TestCancel:
    async def test_closing_the_stream_closes_the_socket(self, transport, start_peer, step):
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n"
        async with start_peer([step.READ, head, step.HANG]) as peer:
            response = await transport.handle_async_request(ask(peer.url))
            assert await anext(aiter(response.stream)) == b"one"
            await response.stream.aclose()
            await response.stream.aclose()
            await asyncio.wait_for(peer.hung_up.wait(), 1)
            await eventually(lambda: transport.connections == 0)
            with pytest.raises(httpx.StreamClosed):
                await anext(aiter(response.stream))

    async def test_cancelling_the_wait_for_the_head_closes_the_socket(
        self, transport, start_peer, step
    ):
        async with start_peer([step.READ, step.HANG]) as peer:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(fetch(transport, ask(peer.url)), 0.1)
            await asyncio.wait_for(peer.hung_up.wait(), 1)
            await eventually(lambda: transport.connections == 0)

    async def test_cancelling_a_read_leaves_the_stream_readable(self, transport, start_peer, step):
        head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
        async with start_peer([step.READ, head, step.STALL, b"hi", step.HANG]) as peer:
            response = await transport.handle_async_request(ask(peer.url))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(aiter(response.stream)), 0.05)
            peer.go.set()
            assert await read(response) == b"hi"
            await transport.aclose()

    async def test_closing_after_the_end_keeps_the_connection(self, transport, start_peer, step):
        async with start_peer([step.READ, OK, step.LOOP]) as peer:
            response = await transport.handle_async_request(ask(peer.url))
            await read(response)
            await response.stream.aclose()
            assert transport.idle == 1
            await transport.aclose()
            assert peer.accepted == 1

    async def test_closing_the_transport_cuts_answers_and_refuses_requests(
        self, transport, start_peer, step
    ):
        head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
        async with start_peer([step.READ, head, step.HANG]) as peer:
            response = await transport.handle_async_request(ask(peer.url))
            waiting = asyncio.create_task(read(response))
            await asyncio.sleep(0.01)
            await transport.aclose()
            with pytest.raises(httpx.ReadError):
                await waiting
            with pytest.raises(httpx.ConnectError, match="closed"):
                await transport.handle_async_request(ask(peer.url))

    async def test_a_closed_transport_makes_no_connection_to_anywhere(
        self, transport, start_peer, step
    ):
        async with start_peer([step.READ, OK]) as peer:
            await transport.aclose()
            with pytest.raises(httpx.ConnectError, match="closed"):
                await transport.handle_async_request(ask(peer.url))
            assert peer.accepted == 0

    async def test_an_origin_may_be_new_while_the_transport_closes(
        self, transport, start_peer, step
    ):
        async with start_peer([step.READ, OK, step.HANG]) as peer:
            assert await fetch(transport, ask(peer.url)) == (200, b"hi")
            closing = asyncio.create_task(transport.aclose())
            await asyncio.sleep(0)  # it waits for the socket now
            assert transport.connections == 1
            with pytest.raises(httpx.ConnectError, match="closed"):
                await transport.handle_async_request(ask("http://127.0.0.1:1"))
            await closing

    async def test_no_socket_is_left(self, start_peer, step):
        endless = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"
        async with start_peer([step.READ, OK, step.READ, endless, step.HANG]) as peer:
            before = sockets()
            transport = Transport()
            for _ in range(20):
                await fetch(transport, ask(peer.url))
                response = await transport.handle_async_request(ask(peer.url))
                await response.stream.aclose()
            await transport.aclose()
            await eventually(lambda: peer.open == 0)
            gc.collect()
            await eventually(lambda: sockets() <= before)


class TestTimeouts:
    async def test_connect(self, transport):
        with contextlib.ExitStack() as sockets:
            deaf = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            for _ in range(3):  # fill its queue: the kernel drops whoever comes next
                queued = sockets.enter_context(socket.socket())
                queued.setblocking(False)
                queued.connect_ex(deaf.getsockname())
            url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
            with pytest.raises(httpx.ConnectTimeout, match=r"within 0\.2 s"):
                await transport.handle_async_request(ask(url, timeout={"connect": 0.2}))

    async def test_tls_handshake_counts_as_connecting(self, transport, start_peer, step):
        async with start_peer([step.HANG]) as peer:
            url = peer.url.replace("http:", "https:")
            with pytest.raises(httpx.ConnectTimeout):
                await transport.handle_async_request(ask(url, timeout={"connect": 0.2}))
            await asyncio.wait_for(peer.hung_up.wait(), 1)

    async def test_silence_before_the_head(self, transport, start_peer, step):
        async with start_peer([step.READ, step.HANG]) as peer:
            with pytest.raises(httpx.ReadTimeout):
                await fetch(transport, ask(peer.url, timeout={"read": 0.1}))
            await asyncio.wait_for(peer.hung_up.wait(), 1)

    async def test_silence_in_the_body(self, transport, start_peer, step):
        async with start_peer([step.READ, OK[:-1], step.HANG]) as peer:
            response = await transport.handle_async_request(ask(peer.url, timeout={"read": 0.1}))
            pieces = aiter(response.stream)
            assert await anext(pieces) == b"h"
            with pytest.raises(httpx.ReadTimeout):
                await anext(pieces)
            await asyncio.wait_for(peer.hung_up.wait(), 1)

    async def test_a_peer_that_takes_no_more_of_the_body(self, transport, start_peer, step):
        async with start_peer([step.READ_HEAD, step.STALL]) as peer:
            request = ask(peer.url, bytes(32 << 20), timeout={"write": 0.2})
            with pytest.raises(httpx.WriteTimeout):
                await transport.handle_async_request(request)
            peer.go.set()
            await eventually(lambda: transport.connections == 0)

    async def test_a_place_in_the_pool(self, start_peer, step):
        transport = Transport(limits=PoolLimits(max_connections=1))
        async with start_peer([step.READ, OK[:-1], step.HANG]) as peer:
            busy = await transport.handle_async_request(ask(peer.url))
            with pytest.raises(httpx.PoolTimeout):
                await transport.handle_async_request(ask(peer.url, timeout={"pool": 0.05}))
            await busy.stream.aclose()
            await transport.aclose()

    async def test_nobody_listens(self, transport, start_peer, step):
        async with start_peer([step.HANG]) as peer:
            url = peer.url
        with pytest.raises(httpx.ConnectError, match="refused"):
            await transport.handle_async_request(ask(url))


class TestBackPressure:
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


class TestUnixSocket:
    async def test_requests_go_through_it(self, transport, start_peer, step, tmp_path):
        path = tmp_path / "engine.sock"
        async with start_peer([step.READ, OK, step.LOOP], path=path) as peer:
            for _ in range(3):
                assert await fetch(transport, ask(peer.url, uds=str(path))) == (200, b"hi")
            assert peer.accepted == 1
            await transport.aclose()

    async def test_a_missing_one_says_so(self, transport, tmp_path):
        with pytest.raises(httpx.ConnectError, match="no such socket"):
            await transport.handle_async_request(
                ask("http://engine", uds=str(tmp_path / "none.sock"))
            )


class TestTls:
    @pytest.fixture
    def authority(self):
        return trustme.CA()

    @pytest.fixture
    def server(self, authority):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        return context

    @pytest.fixture
    def trusting(self, authority):
        context = ssl.create_default_context()
        authority.configure_trust(context)
        return context

    async def test_requests_go_through_it(self, start_peer, step, server, trusting):
        transport = Transport(tls=trusting)
        big = os.urandom(1 << 20)
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(big) + big
        async with start_peer([step.READ, answer, step.LOOP], tls=server) as peer:
            for _ in range(3):
                assert await fetch(transport, ask(peer.url, big)) == (200, big)
            assert peer.accepted == 1
            await transport.aclose()

    async def test_an_unknown_authority_is_refused(self, transport, start_peer, step, server):
        async with start_peer([step.READ, OK], tls=server) as peer:
            with pytest.raises(httpx.ConnectError, match="not trusted") as caught:
                await transport.handle_async_request(ask(peer.url))
            assert isinstance(caught.value.__cause__, ssl.SSLError)
            assert peer.requests == []

    async def test_another_hosts_certificate_is_refused(
        self, start_peer, step, authority, trusting
    ):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("engine.example").configure_cert(context)
        transport = Transport(tls=trusting)
        async with start_peer([step.READ, OK], tls=context) as peer:
            with pytest.raises(httpx.ConnectError, match="not trusted"):
                await transport.handle_async_request(ask(peer.url))
            await transport.aclose()

    async def test_plain_http_behind_https_says_so(self, transport, start_peer, step):
        async with start_peer([b"HTTP/1.1 400 Bad Request\r\n\r\n", step.HANG]) as peer:
            with pytest.raises(httpx.ConnectError, match="TLS"):
                await transport.handle_async_request(ask(peer.url.replace("http:", "https:")))

    async def test_closing_the_stream_closes_the_socket(self, start_peer, step, server, trusting):
        transport = Transport(tls=trusting)
        head = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"
        async with start_peer([step.READ, head, step.HANG], tls=server) as peer:
            response = await transport.handle_async_request(ask(peer.url))
            await response.stream.aclose()
            await asyncio.wait_for(peer.hung_up.wait(), 1)
            await transport.aclose()

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket

import httpx
import pytest

from backends.transport import PoolLimits, Transport
from tests.support.exchanges import OK, ask, eventually, fetch, read


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

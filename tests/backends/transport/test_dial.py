from __future__ import annotations

import asyncio
import os
import ssl

import httpx
import pytest
import trustme

from backends.transport import Transport
from backends.transport.dial import Origin, dial
from tests.support.exchanges import OK, ask, fetch


class Owner:
    def release(self, connection):
        pass

    def lost(self, connection):
        pass


@pytest.mark.parametrize(
    ("origin", "text"),
    [
        (Origin("engine", 8000), "engine:8000"),
        (Origin("::1", 8000), "[::1]:8000"),
        (Origin("localhost", 80, path="/run/e.sock"), "unix:/run/e.sock"),
    ],
)
def test_an_origin_is_named_as_its_owner_would(origin, text):
    assert str(origin) == text


async def test_an_unknown_name_says_whose_it_is():
    with pytest.raises(httpx.ConnectError, match=r"no connection to no-such\.invalid:1: \w"):
        await dial(Origin("no-such.invalid", 1), Owner(), 5, None)


async def test_a_name_that_cannot_be_one_is_an_error_of_connecting():
    with pytest.raises(httpx.ConnectError):
        await dial(Origin("a" * 300, 1), Owner(), 5, None)


async def test_a_file_that_is_no_socket_is_an_error_of_connecting(tmp_path):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(httpx.ConnectError, match=f"unix:{path}"):
        await dial(Origin("localhost", 80, path=str(path)), Owner(), 5, None)


async def test_cancelling_leaves_no_socket(start_peer, step):
    async with start_peer([step.HANG]) as peer:
        port = int(peer.url.rsplit(":", 1)[1])
        tls = ssl.create_default_context()
        dialing = asyncio.create_task(dial(Origin("127.0.0.1", port, True), Owner(), None, tls))
        async with asyncio.timeout(2):
            while not peer.open:
                await asyncio.sleep(0.005)
        dialing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialing
        await asyncio.wait_for(peer.hung_up.wait(), 2)


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

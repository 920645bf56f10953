from __future__ import annotations

import asyncio
import contextlib
import ssl

import httpx
import openai
import pytest
import trustme

from gateway.config import structs
from gateway.config.structs import Limits
from gateway.control.drain import Drain
from gateway.server import GatewayServer
from gateway.server.lingering_close import Bounds, LingeringCloses
from tests.support.inprocess import post, routing, serving
from tests.support.raw_http import CHAT_BODY, chunked_post, refused
from tests.support.refusing import LONG, UNREAD, refusing
from tests.support.until import until
from tests.support.upstream import CHAT, Pause, scripted

MUCH = 20 << 20
"""Bytes: more than the sockets between two processes hold."""


class Clock:
    """The part of an event loop that tells the time, which does not pass by itself."""

    def __init__(self):
        self.now = 0.0
        self.timers = []

    def time(self):
        return self.now

    def call_at(self, when, callback):
        timer = asyncio.TimerHandle(when, callback, (), self)
        self.timers.append(timer)
        return timer

    def advance(self, now):
        self.now = now
        due = [timer for timer in self.timers if timer.when() <= now]
        self.timers = [timer for timer in self.timers if timer.when() > now]
        for timer in due:
            if not timer.cancelled():
                timer._run()

    def get_debug(self):
        return False

    def _timer_handle_cancelled(self, handle):
        pass


class Below(asyncio.Transport):
    """A transport that remembers."""

    closed = False

    def set_protocol(self, protocol):
        self.protocol = protocol

    def can_write_eof(self):
        return False

    def get_write_buffer_size(self):
        return 0

    def close(self):
        self.closed = True


def connections(gateway):
    return gateway.gateway._server.server_state.connections


async def pour(client, data=b"x" * 65536):
    """Send without end, until the other side has had enough."""
    with contextlib.suppress(ConnectionError):
        while True:
            await client.write(data)


class TestAnswer:
    """Clients that write all they have before they read, as most libraries do."""

    @pytest.fixture
    async def small(self, tmp_path, engine):
        document = routing(engine, server={"limits": {"body": "1MiB", "body_timeout": "300ms"}})
        async with serving(tmp_path, document) as running:
            yield running

    @pytest.mark.parametrize("framing", ["a length", "chunks"])
    async def test_httpx_gets_its_413(self, small, framing):
        async def pieces():
            for _ in range(MUCH >> 16):
                yield b"x" * 65536

        for _ in range(3):
            content = b"x" * MUCH if framing == "a length" else pieces()
            answer = await small.client.post("/v1/chat/completions", content=content)
            assert answer.status_code == 413
            assert answer.json()["error"]["code"] == "request_too_large"
            assert answer.headers["connection"] == "close"

    async def test_openais_sdk_gets_its_413(self, small):
        url = f"http://127.0.0.1:{small.port}/v1"
        messages = [{"role": "user", "content": "x" * MUCH}]
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            for _ in range(3):
                with pytest.raises(openai.APIStatusError) as caught:
                    await client.chat.completions.create(model="tale", messages=messages)
                assert caught.value.status_code == 413
                assert caught.value.code == "request_too_large"

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (b"GET /health HTTP/1.1\r\nx: " + b"x" * MUCH, 431),
            (b"GET /" + b"x" * MUCH, 431),
            (b"hello there\r\n\r\n" + b"x" * MUCH, 400),
            (chunked_post(CHAT_BODY)[:-3] + b"zz\r\n" + b"x" * MUCH, 400),
            (chunked_post(CHAT_BODY, trailers=b"x: " + b"y" * MUCH), 431),
        ],
        ids=["a head", "a target", "no HTTP", "bad chunks", "trailers"],
    )
    async def test_what_is_refused_while_it_comes(self, small, data, status):
        client = await small.connect()
        await client.write(data)
        assert refused(await client.response())[0] == status
        assert await client.rest() == b""

    @pytest.mark.slow
    async def test_a_body_that_goes_on_when_its_time_is_over(self, small, engine):
        client = await small.connect()
        await client.write(UNREAD.replace(b"length: 99999999999", b"length: 1000000"))
        await until(lambda: not small.gateway._drain.in_flight and client.reader._buffer)
        await client.write(b"x" * 1_000_000)
        assert refused(await client.response())[0] == 408
        assert engine.seen == []

    async def test_our_half_is_closed_at_once(self, small):
        client = await small.connect()
        await client.write(UNREAD)
        assert refused(await client.response())[0] == 413
        assert await client.rest() == b""
        assert len(connections(small)) == 1

    async def test_one_who_has_sent_all_is_not_waited_for(self, small):
        client = await small.connect()
        await client.write(post(CHAT_BODY, b"connection: close"))
        assert (await client.response())[0] == 200
        await until(lambda: not connections(small))

    async def test_a_line_that_is_dropped_does_not_pass_for_a_client_that_left(self, tmp_path):
        async with (
            scripted((Pause(0.2), *CHAT)) as slow,
            serving(tmp_path, routing(slow)) as gateway,
        ):
            client = await gateway.connect()
            await client.write(post(CHAT_BODY))
            await slow.asked()
            await client.write(post(b"x" * 70_000))
            assert (await client.response())[0] == 200
            assert await client.rest() == b""
            metrics = (await gateway.client.get("/metrics")).text
        assert "client_gone" not in metrics


class TestRequest:
    """For the request that is refused, its client is gone at once."""

    async def test_it_ends(self, gateway, engine):
        client = await gateway.connect()
        await client.write(chunked_post(CHAT_BODY)[:-3])
        await until(lambda: gateway.gateway._drain.in_flight)
        await client.write(b"zz\r\n")
        assert refused(await client.response())[0] == 400
        assert gateway.gateway._drain.in_flight == 0
        assert len(connections(gateway)) == 1
        assert engine.seen == []

    async def test_nobody_is_told_to_continue(self, gateway, caplog):
        client = await gateway.connect()
        head = chunked_post().replace(b"\r\n\r\n0\r\n", b"\r\nexpect: 100-continue\r\n\r\nzz\r\n")
        await client.write(head)
        assert refused(await client.response())[0] == 400
        assert await client.rest() == b""
        assert "Traceback" not in caplog.text


class TestBounds:
    async def test_a_client_that_never_stops_is_cut_after_so_many_bytes(self):
        async with refusing(size=1 << 20) as server:
            await pour(await server.refused())
            await server.gone()

    async def test_and_after_some_time(self):
        async with refusing(time=0.2, size=1 << 40) as server:
            await pour(await server.refused())
            await server.gone()

    async def test_one_that_drips_does_not_buy_time(self):
        async with refusing(time=0.2, silence=0.15) as server:
            client = await server.refused()
            with contextlib.suppress(ConnectionError):
                while server.state.connections:
                    await client.write(b"x")
                    await asyncio.sleep(0.01)
            await server.gone()

    async def test_one_that_says_nothing_more_is_let_go_sooner(self):
        async with refusing(silence=0.1) as server:
            await server.refused()
            await server.gone()

    def test_one_that_says_something_is_not(self):
        clock, transport = Clock(), Below()
        owner = LingeringCloses(Bounds(time=10.0, silence=2.0))
        owner.begin(transport, set(), clock)
        lingering = transport.protocol
        for now in (1.9, 3.8, 5.7, 7.6, 9.5):
            clock.advance(now)
            lingering.data_received(b"x")
        assert not transport.closed
        clock.advance(9.9)
        assert not transport.closed
        clock.advance(10.1)
        assert transport.closed
        assert len(owner) == 0

    async def test_of_too_many_the_one_goes_that_has_had_longest(self):
        async with refusing(at_once=2) as server:
            first, second, third = [await server.refused() for _ in range(3)]
            await until(lambda: len(server.state.connections) == 2)
            await pour(first)
            for client in (second, third):
                await client.write(b"x" * MUCH)
            assert len(server.state.connections) == 2

    @pytest.mark.parametrize("leaves", ["closes", "resets"])
    async def test_it_is_over_when_the_client_leaves(self, leaves, caplog):
        async with refusing() as server:
            client = await server.refused()
            assert len(server.state.connections) == 1
            if leaves == "closes":
                client.writer.close()
            else:
                client.reset()
            await server.gone()
        assert "Traceback" not in caplog.text

    async def test_a_client_that_does_not_read_has_as_long_as_ever(self):
        """Lingering is for answers that have been sent; before that, `write_timeout` bounds."""
        limits = Limits(write_timeout=0.2)
        async with refusing(limits=limits, answer=b"x" * MUCH) as server:
            client = await server.connect()
            client.writer.transport.pause_reading()
            await client.write(UNREAD)
            await until(lambda: server.state.connections)
            await server.gone()


class TestLeaving:
    async def test_there_is_a_moment_for_those_there_are(self):
        async with refusing(leaving=LONG) as server:
            client = await server.refused()
            server.leave()
            await client.write(b"x" * MUCH)
            assert len(server.state.connections) == 1
            client.writer.close()
            await server.gone()

    async def test_and_for_those_that_come_later(self):
        async with refusing(leaving=0.1) as server:
            client = await server.connect()
            await until(lambda: server.state.connections)
            (waiting,) = server.state.connections
            await server.refused()
            for connection in server.state.connections - {waiting}:
                connection.shutdown()
            await client.write(UNREAD)
            assert (await client.response())[0] == 413
            await server.gone()

    async def test_those_who_pour_do_not_hold_it_up(self):
        async with refusing(leaving=0.1, size=1 << 40) as server:
            pouring = [asyncio.create_task(pour(await server.refused())) for _ in range(5)]
            server.leave()
            await server.gone()
            await asyncio.gather(*pouring)

    async def test_an_idle_connection_is_closed_as_ever(self, gateway):
        client = await gateway.connect()
        await client.write(post(CHAT_BODY))
        assert (await client.response())[0] == 200
        for connection in list(connections(gateway)):
            connection.shutdown()
        assert await client.rest() == b""
        await until(lambda: not connections(gateway))

    async def test_one_whose_body_is_still_coming_keeps_its_answer(self, gateway):
        client = await gateway.connect()
        await client.write(b"POST /v1/nothing HTTP/1.1\r\ncontent-length: 9999999999\r\n\r\n")
        await until(lambda: client.reader._buffer)
        for connection in list(connections(gateway)):
            connection.shutdown()
        await client.write(b"x" * MUCH)
        assert (await client.response())[0] == 404


class TestTls:
    """Which knows no half of a connection: the client sees from the answer where it ends."""

    @pytest.fixture
    def tls(self):
        authority = trustme.CA()
        there = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        here = ssl.create_default_context()
        authority.issue_cert("127.0.0.1").configure_cert(there)
        authority.configure_trust(here)
        return there, here

    async def test_a_client_that_writes_all_before_it_reads_gets_its_answer(self, tls):
        there, here = tls
        async with (
            refusing(tls=there) as server,
            httpx.AsyncClient(verify=here, trust_env=False, timeout=LONG) as client,
        ):
            for _ in range(3):
                url = f"https://127.0.0.1:{server.port}/"
                answer = await client.post(url, content=b"x" * MUCH)
                assert (answer.status_code, answer.text) == (413, "full")
            await server.gone()

    async def test_one_that_says_nothing_more_is_let_go(self, tls):
        there, here = tls
        async with refusing(tls=there, silence=0.1) as server:
            client = await server.connect(here)
            await client.write(UNREAD)
            assert (await client.response())[2] == b"full"
            assert await client.rest() == b""
            await server.gone()


def test_the_moment_is_shorter_than_the_server_waits():
    async def app(scope, receive, send):
        raise AssertionError("nobody asks")

    server = GatewayServer(app, structs.Server(), Drain())
    assert Bounds().leaving < server.config.timeout_graceful_shutdown

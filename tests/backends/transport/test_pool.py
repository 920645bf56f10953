from __future__ import annotations

import asyncio

import httpx
import pytest

from backends.transport import Transport
from backends.transport.connection import Connection, UnansweredError
from backends.transport.pool import Pool, PoolLimits
from backends.transport.transport import RACE_WINDOW
from tests.support.exchanges import OK, ask, eventually, fetch, read


class Wire(asyncio.Transport):
    def __init__(self, protocol):
        super().__init__()
        self.protocol = protocol

    def abort(self):
        asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)


class Dialer:
    """Makes connections that go nowhere; can be told to fail or to wait."""

    def __init__(self):
        self.error = None
        self.made = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, owner, within):
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.made += 1
        connection = Connection(owner, asyncio.get_running_loop())
        connection.connection_made(Wire(connection))
        return connection


@pytest.fixture
async def dialer():
    return Dialer()


def pool_of(dialer, **limits):
    return Pool(dialer, PoolLimits(**limits))


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_last_released_is_the_first_reused(dialer):
    pool = pool_of(dialer)
    cold, warm = await pool.acquire(None, None), await pool.acquire(None, None)
    pool.release(cold)
    pool.release(warm)
    assert pool.take() is warm
    assert pool.take() is cold
    assert pool.take() is None
    await pool.aclose()


async def test_idle_connections_expire_oldest_first(dialer):
    pool = pool_of(dialer, idle_expiry=0.1)
    first, second = await pool.acquire(None, None), await pool.acquire(None, None)
    pool.release(first)
    await asyncio.sleep(0.06)
    pool.release(second)
    async with asyncio.timeout(5):
        while not first.closed:
            await asyncio.sleep(0.005)
    assert not second.closed
    async with asyncio.timeout(5):
        while pool.open:
            await asyncio.sleep(0.005)
    await pool.aclose()


async def test_no_more_than_max_idle_are_kept(dialer):
    pool = pool_of(dialer, max_idle=2)
    for connection in [await pool.acquire(None, None) for _ in range(5)]:
        pool.release(connection)
    await settle()
    assert (pool.idle, pool.open) == (2, 2)
    await pool.aclose()


async def test_a_connection_that_closes_while_idle_is_forgotten(dialer):
    pool = pool_of(dialer)
    connection = await pool.acquire(None, None)
    pool.release(connection)
    connection.connection_lost(None)
    assert (pool.idle, pool.open, pool.take()) == (0, 0, None)
    await pool.aclose()


async def test_whoever_waits_is_served_in_order(dialer):
    pool = pool_of(dialer, max_connections=1)
    busy = await pool.acquire(None, None)
    order = []

    async def use(name):
        connection = await pool.acquire(None, None)
        order.append(name)
        pool.release(connection)

    async with asyncio.TaskGroup() as tasks:
        for name in range(5):
            tasks.create_task(use(name))
        await settle()
        assert order == []
        pool.release(busy)
    assert order == [0, 1, 2, 3, 4]
    assert dialer.made == 1
    await pool.aclose()


async def test_a_lost_connection_makes_place_for_who_waits(dialer):
    pool = pool_of(dialer, max_connections=1)
    busy = await pool.acquire(None, None)
    waiting = asyncio.create_task(pool.acquire(None, None))
    await settle()
    busy.abort()
    assert await asyncio.wait_for(waiting, 1) is not busy
    await pool.aclose()


async def test_a_failed_dial_makes_place_for_who_waits(dialer):
    pool = pool_of(dialer, max_connections=1)
    dialer.gate.clear()
    first = asyncio.create_task(pool.acquire(None, None))
    second = asyncio.create_task(pool.acquire(None, None))
    await settle()
    first.cancel()
    await settle()
    dialer.gate.set()
    assert await asyncio.wait_for(second, 1)
    assert dialer.made == 1
    await pool.aclose()


async def test_who_stops_waiting_passes_on_what_it_was_given(dialer):
    pool = pool_of(dialer, max_connections=1)
    busy = await pool.acquire(None, None)
    quitter = asyncio.create_task(pool.acquire(None, None))
    heir = asyncio.create_task(pool.acquire(None, None))
    await settle()
    pool.release(busy)  # given to the quitter, who leaves before it can look
    quitter.cancel()
    assert await asyncio.wait_for(heir, 1) is busy
    with pytest.raises(asyncio.CancelledError):
        await quitter
    await pool.aclose()


async def test_waiting_ends_in_time_and_leaves_no_trace(dialer):
    pool = pool_of(dialer, max_connections=1)
    busy = await pool.acquire(None, None)
    with pytest.raises(httpx.PoolTimeout, match="all 1 connections"):
        await pool.acquire(None, 0.02)
    pool.release(busy)
    assert await pool.acquire(None, 0.02) is busy
    await pool.aclose()


async def test_closing_turns_away_who_waits(dialer):
    pool = pool_of(dialer, max_connections=1)
    await pool.acquire(None, None)
    waiting = asyncio.create_task(pool.acquire(None, None))
    await settle()
    await pool.aclose()
    assert pool.open == 0
    with pytest.raises(httpx.ConnectError, match="closed"):
        await asyncio.wait_for(waiting, 1)


async def test_a_connection_made_while_closing_is_closed(dialer):
    pool = pool_of(dialer)
    dialer.gate.clear()
    dialing = asyncio.create_task(pool.acquire(None, None))
    await settle()
    await pool.aclose()
    dialer.gate.set()
    with pytest.raises(httpx.ConnectError, match="closed"):
        await dialing
    await settle()
    assert pool.open == 0


async def test_closing_twice_is_the_same_as_once(dialer):
    pool = pool_of(dialer)
    await pool.acquire(None, None)
    await asyncio.gather(pool.aclose(), pool.aclose())
    await pool.aclose()
    assert pool.open == 0


async def test_closing_does_not_wait_for_ever_for_a_socket(dialer):
    pool = pool_of(dialer)
    connection = await pool.acquire(None, None)
    connection._transport.abort = lambda: None  # an event loop that never says it is lost
    await asyncio.wait_for(pool.aclose(within=0.02), 5)
    assert connection.closed
    assert pool.open == 1


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

    @pytest.mark.slow
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

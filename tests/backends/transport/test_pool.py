from __future__ import annotations

import asyncio

import httpx
import pytest

from backends.transport.connection import Connection
from backends.transport.pool import Pool, PoolLimits


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

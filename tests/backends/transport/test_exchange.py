from __future__ import annotations

import asyncio

import httpx
import pytest

from backends.transport.exchange import HIGH_WATER, Exchange


class Line:
    def __init__(self):
        self.resumed = self.aborted = 0

    def resume(self):
        self.resumed += 1

    def abort(self):
        self.aborted += 1


@pytest.fixture
def line():
    return Line()


@pytest.fixture
async def exchange(line):
    return Exchange(line, asyncio.get_running_loop(), None)


async def test_what_has_arrived_is_one_piece(exchange):
    exchange.feed(b"a")
    exchange.feed(b"b")
    assert await anext(exchange) == b"ab"
    exchange.feed(b"c")
    exchange.end()
    assert [piece async for piece in exchange] == [b"c"]


async def test_what_has_arrived_is_handed_out_before_the_failure(exchange):
    exchange.feed(b"a")
    exchange.fail(httpx.ReadError("gone"))
    assert await anext(exchange) == b"a"
    for _ in range(2):
        with pytest.raises(httpx.ReadError, match="gone"):
            await anext(exchange)


async def test_the_first_end_counts(exchange):
    exchange.end()
    exchange.fail(httpx.ReadError("late"))
    assert [piece async for piece in exchange] == []


async def test_the_line_is_resumed_only_when_it_was_full(exchange, line):
    exchange.feed(bytes(HIGH_WATER - 1))
    await anext(exchange)
    assert line.resumed == 0
    exchange.feed(bytes(HIGH_WATER))
    await anext(exchange)
    assert (line.resumed, exchange.buffered) == (1, 0)


async def test_closing_aborts_once_and_frees_what_waits(exchange, line):
    exchange.feed(bytes(10))
    await exchange.aclose()
    await exchange.aclose()
    assert (line.aborted, exchange.buffered) == (1, 0)
    with pytest.raises(httpx.StreamClosed):
        await anext(exchange)


async def test_closing_after_the_end_aborts_nothing(exchange, line):
    exchange.feed(b"a")
    exchange.end()
    await exchange.aclose()
    assert line.aborted == 0


async def test_closing_wakes_a_reader_that_waits(exchange):
    waiting = asyncio.create_task(anext(exchange))
    await asyncio.sleep(0)
    exchange.close()
    with pytest.raises(httpx.StreamClosed):
        await asyncio.wait_for(waiting, 1)

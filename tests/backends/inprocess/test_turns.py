from __future__ import annotations

import asyncio

import pytest

from backends.base import RequestRefused
from backends.inprocess.turns import Turns


def turns(at_once=1, max_waiting=1, within=5.0):
    return Turns(at_once, "to be let in", max_waiting=max_waiting, within=within)


async def refused(turns):
    with pytest.raises(RequestRefused, match="wait to be let in") as caught:
        await turns.take()
    assert (caught.value.status, caught.value.code) == (429, "engine_overloaded")
    assert caught.value.retry_after


async def test_one_is_given_to_who_waits_longest():
    one, order = turns(max_waiting=2), []

    async def take(name):
        await one.take()
        order.append(name)

    await one.take()
    waiting = [asyncio.create_task(take(name)) for name in "ab"]
    await asyncio.sleep(0)
    one.give()
    one.give()
    await asyncio.gather(*waiting)
    assert order == ["a", "b"]


async def test_who_waits_is_bounded_in_number():
    one = turns(at_once=2, max_waiting=1)
    await one.take()
    await one.take()
    waiting = asyncio.create_task(one.take())
    await asyncio.sleep(0)
    await refused(one)
    one.give()
    await waiting


async def test_who_waits_is_bounded_in_time_and_leaves_no_trace():
    one = turns(within=0.01)
    await one.take()
    await refused(one)
    one.give()
    await one.take()


async def test_nobody_need_wait_for_one_that_is_free():
    await turns(max_waiting=0).take()


async def test_who_gives_up_takes_none():
    one = turns()
    await one.take()
    waiting = asyncio.create_task(one.take())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    one.give()
    await one.take()
    await asyncio.sleep(0)


async def test_small_ones_go_together_and_a_large_one_takes_all():
    room = turns(at_once=4, max_waiting=9)
    assert [await room.take(2), await room.take(1)] == [2, 1]
    large = asyncio.create_task(room.take(100))
    small = asyncio.create_task(room.take(1))
    await asyncio.sleep(0)
    assert room.waiting == 2, "what is small does not pass by what is large"
    room.give(2)
    await asyncio.sleep(0)
    assert room.waiting == 2
    room.give(1)
    assert await large == 4
    await asyncio.sleep(0)
    assert not small.done()
    room.give(4)
    assert await small == 1


async def test_those_behind_one_who_gives_up_get_on():
    room = turns(at_once=4, max_waiting=9)
    await room.take(3)
    large = asyncio.create_task(room.take(4))
    small = asyncio.create_task(room.take(1))
    await asyncio.sleep(0)
    large.cancel()
    assert await small == 1
    await asyncio.gather(large, return_exceptions=True)


async def test_a_turn_that_comes_as_one_gives_up_goes_to_the_next():
    room = turns(at_once=1, max_waiting=9)
    await room.take()
    leaving, behind = (asyncio.create_task(room.take()) for _ in range(2))
    await asyncio.sleep(0)
    room.give()
    leaving.cancel()
    assert await behind == 1
    await asyncio.gather(leaving, return_exceptions=True)
    room.give()
    assert await room.take() == 1


async def test_waits_are_timed():
    room = turns(max_waiting=9)
    await room.take()
    assert room.waited == 0.0
    waiting = asyncio.create_task(room.take())
    await asyncio.sleep(0.002)
    room.give()
    await waiting
    assert room.waited > 0

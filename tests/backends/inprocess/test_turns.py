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

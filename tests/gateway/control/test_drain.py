from __future__ import annotations

import asyncio

import pytest

from gateway.control.drain import Drain, Phase, shutting_down
from gateway.errors import Unavailable


@pytest.fixture
async def drain():
    return Drain()


def running(drain, work):
    """A task that answers a request with `work`."""

    async def answer():
        task = asyncio.current_task()
        drain.admit(task)
        try:
            await work
        finally:
            drain.done(task)

    return asyncio.create_task(answer())


async def test_with_nothing_to_wait_for_it_is_over_at_once(drain):
    await asyncio.wait_for(drain.run(0, 60), 1)
    assert drain.phase is Phase.CUT
    with pytest.raises(Unavailable):
        drain.admit(asyncio.current_task())


@pytest.mark.slow
async def test_requests_are_taken_while_others_learn_of_it_and_then_no_more(drain):
    leaving = asyncio.create_task(drain.run(0.1, 60))
    await asyncio.sleep(0)
    assert drain.phase is Phase.LEAVING
    late = running(drain, asyncio.sleep(0.3))
    await asyncio.sleep(0.2)
    assert drain.phase is Phase.DRAINING
    with pytest.raises(Unavailable) as refused:
        drain.admit(asyncio.current_task())
    assert refused.value.retry_after
    await asyncio.wait_for(leaving, 2)
    assert late.done()
    assert not late.cancelled()


async def test_what_takes_too_long_is_cut(drain):
    slow = running(drain, asyncio.sleep(60))
    await asyncio.sleep(0)
    await asyncio.wait_for(drain.run(0, 0.05), 2)
    assert slow.cancelled()
    assert drain.phase is Phase.CUT
    assert drain.in_flight == 0


@pytest.mark.parametrize("grace", [0, 60])
async def test_also_where_it_is_broken_off(drain, grace):
    slow = running(drain, asyncio.sleep(60))
    leaving = asyncio.create_task(drain.run(grace, 60))
    await asyncio.sleep(0.02)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert drain.phase is Phase.CUT
    await asyncio.wait([slow], timeout=1)
    assert slow.cancelled()


async def test_being_cut_twice_cancels_once(drain):
    """The second would end what a request says with its last breath."""
    said = []

    async def stubborn():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.02)
            said.append("shutting down")

    slow = running(drain, stubborn())
    await asyncio.sleep(0)
    drain.cut()
    await asyncio.sleep(0)
    drain.cut()
    await asyncio.wait_for(slow, 1)
    assert said


@pytest.mark.slow
async def test_waiting_does_not_poll(drain):
    loop = asyncio.get_running_loop()
    slow = running(drain, asyncio.sleep(0.3))
    leaving = asyncio.create_task(drain.run(0.3, 60))
    await asyncio.sleep(0.01)
    timers = [timer for timer in loop._scheduled if not timer.cancelled()]
    assert min(timer.when() for timer in timers) > loop.time() + 0.2
    await asyncio.wait_for(leaving, 2)
    assert slow.done()


@pytest.mark.parametrize("grace", [0, 60])
async def test_being_cut_ends_every_wait(drain, grace):
    slow = running(drain, asyncio.sleep(60))
    leaving = asyncio.create_task(drain.run(grace, 60))
    await asyncio.sleep(0.02)
    drain.cut()
    await asyncio.wait_for(leaving, 2)
    assert slow.cancelled()


async def test_a_request_that_ends_twice_is_counted_once(drain):
    task = asyncio.current_task()
    drain.admit(task)
    drain.done(task)
    drain.done(task)
    assert drain.in_flight == 0


def test_who_comes_too_late_is_told_to_come_back():
    error = shutting_down()
    assert (error.status, error.code) == (503, "shutting_down")
    assert error.retry_after >= 1

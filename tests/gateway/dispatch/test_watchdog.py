from __future__ import annotations

import asyncio

import pytest

from gateway.dispatch.watchdog import TICK, WaitTooLongError, Watchdogs


@pytest.fixture
async def watch():
    """A function that bounds a wait of the task that calls it."""
    owner = Watchdogs()
    made = []

    async def wait(awaitable, seconds, prolong=None):
        watchdog = owner.watch(asyncio.current_task())
        made.append(watchdog)
        return await watchdog.wait(awaitable, watchdog.now() + seconds, prolong)

    yield wait
    for watchdog in made:
        watchdog.close()


async def test_what_is_in_time_comes_back(watch):
    assert await watch(asyncio.sleep(0.01, "here"), 5) == "here"


async def test_what_fails_in_time_fails_as_it_did(watch):
    async def broken():
        raise KeyError("x")

    with pytest.raises(KeyError):
        await watch(broken(), 5)


async def test_what_is_too_late_is_cancelled(watch):
    task = asyncio.create_task(asyncio.sleep(60))
    with pytest.raises(WaitTooLongError):
        await watch(task, 0.02)
    assert task.cancelled()
    assert asyncio.current_task().cancelling() == 0


async def test_after_one_that_was_too_long_the_next_one_is_waited_for(watch):
    with pytest.raises(WaitTooLongError):
        await watch(asyncio.sleep(60), 0.01)
    assert await watch(asyncio.sleep(TICK * 3, "here"), 5) == "here"


async def test_a_cancellation_from_outside_stays_one(watch):
    task = asyncio.create_task(watch(asyncio.sleep(60), 60))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_of_both_at_once_the_one_from_outside_wins():
    owner = Watchdogs()
    outcome = []

    async def waiting():
        watchdog = owner.watch(asyncio.current_task())
        try:
            await watchdog.wait(asyncio.sleep(60), watchdog.now() + 60)
        except BaseException as error:
            outcome.append(type(error))
            raise
        finally:
            watchdog.close()

    task = asyncio.create_task(waiting())
    await asyncio.sleep(0.01)
    (watchdog,) = owner._awake
    watchdog.expire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert outcome == [asyncio.CancelledError]


async def test_between_two_waits_nothing_expires():
    owner = Watchdogs()
    watchdog = owner.watch(asyncio.current_task())
    await watchdog.wait(asyncio.sleep(0), watchdog.now() + 0.01)
    await asyncio.sleep(TICK * 3)
    watchdog.close()


async def test_the_timer_ends_with_the_last_watchdog():
    owner = Watchdogs()
    owner.watch(asyncio.current_task()).close()
    await asyncio.sleep(TICK * 3)
    assert owner._timer is None


async def test_a_wait_goes_on_where_its_deadline_has_moved(watch):
    asked = []

    def later(now):
        asked.append(now)
        return now + 60

    assert await watch(asyncio.sleep(TICK * 3, "here"), 0.01, later) == "here"
    assert len(asked) == 1


async def test_it_ends_where_it_has_not(watch):
    with pytest.raises(WaitTooLongError):
        await watch(asyncio.sleep(60), 0.01, lambda now: now)


async def test_what_prolonged_one_wait_does_not_prolong_the_next():
    owner = Watchdogs()
    watchdog = owner.watch(asyncio.current_task())
    await watchdog.wait(asyncio.sleep(0), watchdog.now() + 60, lambda now: now + 60)
    with pytest.raises(WaitTooLongError):
        await watchdog.wait(asyncio.sleep(60), watchdog.now() + 0.01)
    watchdog.close()


async def test_a_bug_in_that_ends_the_wait_and_nobody_elses(watch, caplog):
    with pytest.raises(WaitTooLongError):
        await watch(asyncio.sleep(60), 0.01, lambda now: now / 0)
    assert "ZeroDivisionError" in caplog.text
    with pytest.raises(WaitTooLongError):
        await watch(asyncio.sleep(60), 0.01)

from __future__ import annotations

import asyncio

import pytest

from backends.base import BackendError
from backends.launch.life import CommandMissingError, EngineFailedError
from backends.launch.phase import Phase
from backends.launch.supervisor import MAX_PENDING, Supervisor
from backends.process import Ended
from backends.readiness import Readiness
from tests.support.supervised import ScriptedLife, at_once, broken, never, supervised


async def test_from_asleep_to_ready_to_stopped():
    async with supervised(at_once) as stage:
        await stage.until(Phase.READY)
        assert stage.supervisor.life is stage.lives[0]
        assert stage.supervisor.readiness == Readiness(True)
    assert stage.lives[0].ended is False
    assert stage.supervisor.phase is Phase.STOPPED
    assert stage.supervisor.life is None
    assert [one.ready for one in stage.told] == [True, False, False, True, False, False]


async def test_a_death_is_told_at_once_and_it_comes_back():
    async with supervised(at_once) as stage:
        await stage.until(Phase.READY)
        stage.lives[0].died.set_result(Ended(signal=9))
        await stage.until(Phase.BACKING_OFF)
        assert stage.told[-1] == Readiness(False, "backing_off: was ended by SIGKILL")
        assert stage.supervisor.life is None
        await stage.until(Phase.READY)
        assert stage.supervisor.supervised.restarts == 1
        assert len(stage.lives) == 2


@pytest.mark.slow
async def test_a_crash_loop_goes_on_slowly_and_can_end():
    async with supervised(broken, broken, broken, broken, at_once) as stage:
        await stage.until(Phase.CRASH_LOOP)
        assert "no such model" in stage.supervisor.readiness.reason
        with pytest.raises(BackendError, match="no such model"):
            await stage.supervisor.until_ready()
        with pytest.raises(BackendError, match="no such model"):
            await stage.supervisor.settled()
        await stage.until(Phase.READY)


async def refused(supervisor: Supervisor) -> float | None:
    """What a request is told of when to come again."""
    with pytest.raises(BackendError) as caught:
        await supervisor.until_ready()
    return caught.value.retry_after


async def test_in_a_crash_loop_requests_are_told_the_next_try():
    async with supervised(broken, uniform=lambda _, most: most if most >= 60 else 0.0) as stage:
        await stage.until(Phase.CRASH_LOOP)
        assert await refused(stage.supervisor) == pytest.approx(60, abs=10)


async def test_without_a_command_there_is_no_second_try_at_once():
    async def nothing_there(_life: ScriptedLife) -> None:
        raise CommandMissingError("vllm is not on PATH")

    async with supervised(nothing_there, uniform=lambda _, most: most) as stage:
        with pytest.raises(BackendError, match="crash_loop: vllm is not on PATH"):
            await stage.supervisor.settled()
        assert len(stage.lives) == 1


async def test_while_it_starts_requests_are_told_what_is_left_of_the_time_that_starts_take():
    async with supervised(at_once, never, start_timeout=0.02) as stage:
        await stage.until(Phase.READY)
        stage.lives[0].died.set_result(Ended(signal=9))
        await stage.until_lives(2)
        assert await refused(stage.supervisor) is None, "it has taken longer already"
        stage.supervisor._start_took = 500.0
        assert await refused(stage.supervisor) == pytest.approx(490, abs=10)


async def test_a_bug_of_ours_is_one_more_death():
    async def bug(_life: ScriptedLife) -> None:
        raise ZeroDivisionError

    async with supervised(bug, at_once) as stage:
        await stage.until(Phase.READY)
    assert stage.lives[0].ended is True


async def test_a_request_wakes_it_and_many_wait_for_one_start():
    async with supervised(at_once, wake=False) as stage:
        assert stage.supervisor.readiness.ready
        await asyncio.gather(*(stage.supervisor.until_ready() for _ in range(20)))
        assert len(stage.lives) == 1
        assert not stage.supervisor.busy


async def test_too_many_do_not_wait():
    async with supervised(never) as stage:
        waiting = [asyncio.create_task(stage.supervisor.until_ready()) for _ in range(MAX_PENDING)]
        await asyncio.sleep(0)
        with pytest.raises(BackendError, match=f"{MAX_PENDING} requests wait"):
            await stage.supervisor.until_ready()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert not stage.supervisor.busy


async def test_the_wait_is_bounded():
    async with supervised(never, start_timeout=0.02) as stage:
        with pytest.raises(BackendError, match="is still starting"):
            await stage.supervisor.until_ready()


async def test_stopped_while_it_starts_it_is_ended():
    async with supervised(never) as stage:
        await stage.until(Phase.STARTING)
        await asyncio.sleep(0.01)
    assert stage.lives[0].ended is False


async def test_who_waits_when_it_is_stopped_is_told():
    async with supervised(never) as stage:
        waiting = asyncio.create_task(stage.supervisor.until_ready())
        await asyncio.sleep(0.01)
    with pytest.raises(BackendError):
        await waiting


async def test_it_sleeps_when_told_and_wakes_for_the_next_request():
    async with supervised(at_once) as stage:
        await stage.until(Phase.READY)
        stage.supervisor.go_to_sleep()
        assert not stage.supervisor.readiness.ready
        assert stage.supervisor.life is None
        await stage.supervisor.until_asleep()
        assert stage.supervisor.phase is Phase.ASLEEP
        assert not stage.supervisor.resident
        await stage.supervisor.until_ready()
        assert len(stage.lives) == 2


async def test_nothing_busy_is_put_to_sleep():
    async with supervised(at_once) as stage:
        await stage.until(Phase.READY)
        end = stage.supervisor.begin()
        with pytest.raises(AssertionError, match="running or pending"):
            stage.supervisor.go_to_sleep()
        end()
        end()
        assert not stage.supervisor.busy


async def test_one_that_starts_is_not_put_to_sleep_but_one_that_has_failed_is():
    """`settled` comes back then: a reload waits for it."""

    async def told_to_fail(life: ScriptedLife) -> None:
        await life.died
        raise EngineFailedError("ended with exit code 1")

    async with supervised(told_to_fail) as stage:
        settled = asyncio.create_task(stage.supervisor.settled())
        await stage.until_lives(1)
        assert stage.supervisor.starting
        with pytest.raises(AssertionError, match="it starts"):
            stage.supervisor.go_to_sleep()
        stage.lives[0].died.set_result(Ended(code=1))
        await stage.until(Phase.BACKING_OFF)
        assert not stage.supervisor.starting
        stage.supervisor.go_to_sleep()
        async with asyncio.timeout(5):
            await settled
        assert stage.supervisor.phase is Phase.ASLEEP


async def test_a_life_that_cannot_be_made_or_ended_is_one_more_death():
    async with supervised(at_once) as stage:
        await stage.until(Phase.READY)
        stage.lives[0].cannot_end = True
        stage.cannot_make = 1
        stage.supervisor.go_to_sleep()
        await stage.supervisor.until_ready()
        assert stage.cannot_make == 0
        assert stage.supervisor.supervised.restarts == 2


async def test_it_is_pending_until_all_is_done_that_was_to_be_done_first():
    async with supervised(at_once, wake=False) as stage:
        seen = []

        async def then() -> None:
            await asyncio.sleep(0)
            seen.append((stage.supervisor.phase, stage.supervisor.busy))

        await stage.supervisor.until_ready(then)
        assert seen == [(Phase.READY, True)]

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from backends.base import BackendError, Readiness
from backends.launch import watch
from backends.launch.doubt import Token
from backends.launch.life import EngineFailedError
from backends.launch.restarts import Restarts
from backends.launch.supervisor import MAX_PENDING, Phase, Supervisor
from backends.options import Launch
from backends.process import Ended
from backends.units import Timeout

Start = Callable[["ScriptedLife"], Awaitable[None]]


async def at_once(_life: ScriptedLife) -> None:
    """Ready as soon as it is started."""


async def never(_life: ScriptedLife) -> None:
    await asyncio.sleep(600)


async def broken(_life: ScriptedLife) -> None:
    raise EngineFailedError("ended with exit code 1: no such model")


class ScriptedLife:
    """A life without a process, that does what a test says."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self.adapter = SimpleNamespace(on_event=None)
        self.died: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self.process = SimpleNamespace(wait=self._death, pid=None)
        self.token = Token(True)
        self.made: float | None = None
        """What it counts itself."""
        self.advance = 0.0
        """How far it gets between two looks."""
        self.tokens_asked = 0
        self.ended: bool | None = None
        """Whether it was killed, once it was ended."""

    async def start(self) -> None:
        await self._start(self)

    async def _death(self) -> Ended:
        return await asyncio.shield(self.died)

    async def make_token(self, within: float) -> Token:
        self.tokens_asked += 1
        return self.token

    async def steps(self) -> float | None:
        if self.made is not None:
            self.made += self.advance
        return self.made

    async def end(self, *, kill: bool) -> None:
        self.ended = kill

    def obituary(self, ended: Ended) -> str:
        return str(ended)


class Stage:
    """A supervisor with the lives it has made, and every readiness it has told."""

    def __init__(self, supervisor: Supervisor, lives: list[ScriptedLife]) -> None:
        self.supervisor = supervisor
        self.lives = lives
        self.told: list[Readiness] = []

    async def until(self, *phases: Phase) -> None:
        async with asyncio.timeout(5):
            while self.supervisor.phase not in phases:
                await asyncio.sleep(0.001)


@asynccontextmanager
async def supervised(*starts: Start, wake: bool = True, **launch: float) -> AsyncIterator[Stage]:
    """The last of `starts` is that of all further lives."""
    lives: list[ScriptedLife] = []

    def make_life(number: int) -> ScriptedLife:
        lives.append(ScriptedLife(starts[min(number, len(starts)) - 1]))
        return lives[-1]

    options = Launch(model="m", **{key: Timeout(value) for key, value in launch.items()})
    told: list[Readiness] = []
    supervisor = Supervisor(
        "e@0",
        options,
        make_life,  # type: ignore[arg-type]
        Restarts(lambda _, most: most / 1000),
        told.append,
    )
    stage = Stage(supervisor, lives)
    stage.told = told
    supervisor.start()
    if wake:
        supervisor.wake()
    try:
        yield stage
    finally:
        await supervisor.stop()


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


async def test_a_crash_loop_goes_on_slowly_and_can_end():
    async with supervised(broken, broken, broken, broken, at_once) as stage:
        await stage.until(Phase.CRASH_LOOP)
        assert "no such model" in stage.supervisor.readiness.reason
        with pytest.raises(BackendError, match="no such model"):
            await stage.supervisor.until_ready()
        with pytest.raises(BackendError, match="no such model"):
            await stage.supervisor.settled()
        await stage.until(Phase.READY)


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


async def test_idle_it_is_unloaded():
    async with supervised(at_once, idle_unload=0.05) as stage:
        end = None
        await stage.until(Phase.READY)
        end = stage.supervisor.begin()
        await asyncio.sleep(0.2)
        assert stage.supervisor.phase is Phase.READY
        end()
        await stage.until(Phase.ASLEEP)


async def test_one_that_makes_no_token_is_killed_and_one_that_is_slow_is_not():
    async with supervised(at_once, stall_timeout=0.05) as stage:
        await stage.until(Phase.READY)
        end = stage.supervisor.begin()
        slow = stage.lives[0]
        while slow.tokens_asked < 3:
            await asyncio.sleep(0.001)
        assert stage.supervisor.phase is Phase.READY
        slow.token = Token(False, "made no token within 1 s")
        await stage.until(Phase.BACKING_OFF, Phase.STARTING)
        end()
        await stage.until(Phase.READY)
        assert slow.ended is True
        assert stage.told[-3].reason == "backing_off: hangs: made no token within 1 s"


async def test_one_whose_replies_move_is_not_asked():
    async with supervised(at_once, stall_timeout=0.1) as stage:
        await stage.until(Phase.READY)
        end = stage.supervisor.begin()
        for _ in range(30):
            stage.lives[0].adapter.on_event()
            await asyncio.sleep(0.01)
        assert stage.lives[0].tokens_asked == 0
        end()


async def test_at_rest_it_is_asked_for_a_token_now_and_then(monkeypatch):
    monkeypatch.setattr("backends.launch.activity.PROBE_WHEN_IDLE", 0.01)
    monkeypatch.setattr(watch, "_TICK", 0.01)
    async with supervised(at_once) as stage:
        await stage.until(Phase.READY)
        while stage.lives[0].tokens_asked < 3:
            await asyncio.sleep(0.001)
        stage.lives[0].token = Token(False, "answers HTTP 500 when asked for a token")
        while len(stage.lives) < 2:
            await asyncio.sleep(0.001)

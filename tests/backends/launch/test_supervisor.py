from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from backends.base import BackendError
from backends.launch import watch
from backends.launch.activity import Activity, Look
from backends.launch.doubt import Token
from backends.launch.life import CommandMissingError, EngineFailedError
from backends.launch.restarts import Restarts
from backends.launch.supervisor import MAX_PENDING, Phase, Supervisor
from backends.options import Launch
from backends.process import Ended
from backends.readiness import Readiness
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
        self.moves = False
        """A piece of a reply comes while it is asked for a token."""
        self.made: float | None = None
        """What it counts itself."""
        self.advance = 0.0
        """How far it gets between two looks."""
        self.tokens_asked = 0
        self.cannot_end = False
        self.ended: bool | None = None
        """Whether it was killed, once it was ended."""

    async def start(self) -> None:
        await self._start(self)

    async def _death(self) -> Ended:
        return await asyncio.shield(self.died)

    async def make_token(self, within: float) -> Token:
        self.tokens_asked += 1
        if self.moves:
            self.adapter.on_event()
        return self.token

    async def steps(self, within: float) -> float | None:
        if self.made is not None:
            self.made += self.advance
        return self.made

    async def end(self, *, kill: bool) -> None:
        self.ended = kill
        if self.cannot_end:
            raise ZeroDivisionError

    def obituary(self, ended: Ended) -> str:
        return str(ended)


class Stage:
    """A supervisor with the lives it has made, and every readiness it has told."""

    def __init__(self, supervisor: Supervisor, lives: list[ScriptedLife]) -> None:
        self.supervisor = supervisor
        self.lives = lives
        self.told: list[Readiness] = []
        self.cannot_make = 0
        """How many lives cannot be made."""

    async def until(self, *phases: Phase) -> None:
        await until(lambda: self.supervisor.phase in phases)

    async def until_lives(self, count: int) -> None:
        await until(lambda: len(self.lives) >= count)

    async def until_asked(self, life: ScriptedLife, tokens: int) -> None:
        await until(lambda: life.tokens_asked >= tokens)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def supervised(
    *starts: Start,
    wake: bool = True,
    uniform: Callable[[float, float], float] = lambda _, most: most / 1000,
    **launch: float,
) -> AsyncIterator[Stage]:
    """The last of `starts` is that of all further lives."""
    lives: list[ScriptedLife] = []

    def make_life(number: int) -> ScriptedLife:
        if stage.cannot_make:
            stage.cannot_make -= 1
            raise ZeroDivisionError
        lives.append(ScriptedLife(starts[min(number, len(starts)) - 1]))
        return lives[-1]

    options = Launch(model="m", **{key: Timeout(value) for key, value in launch.items()})
    told: list[Readiness] = []
    supervisor = Supervisor(
        "e@0",
        options,
        make_life,  # type: ignore[arg-type]
        Restarts(uniform),
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


async def test_idle_it_is_unloaded(monkeypatch):
    looks = []

    class Watched(Activity):
        def look(self, now: float, **limits: Any) -> Look:
            looks.append(now)
            return super().look(now, **limits)

    monkeypatch.setattr("backends.launch.supervisor.Activity", Watched)
    async with supervised(at_once, idle_unload=0.01) as stage:
        await stage.until(Phase.READY)
        end = stage.supervisor.begin()
        begun = asyncio.get_running_loop().time()
        await until(lambda: bool(looks) and looks[-1] > begun + 0.02)
        assert stage.supervisor.phase is Phase.READY
        end()
        await stage.until(Phase.ASLEEP)


async def test_one_that_makes_no_token_is_killed():
    async with supervised(at_once, stall_timeout=0.05) as stage:
        await stage.until(Phase.READY)
        end = stage.supervisor.begin()
        slow = stage.lives[0]
        await stage.until_asked(slow, 3)
        assert stage.supervisor.phase is Phase.READY
        slow.token = Token(False, "made no token within 1 s")
        await stage.until(Phase.BACKING_OFF, Phase.STARTING)
        end()
        await stage.until(Phase.READY)
        assert slow.ended is True
        assert stage.told[-3].reason == "backing_off: hangs: made no token within 1 s"


@pytest.mark.parametrize(
    "token",
    [
        Token(False, "made no token within 1 s"),
        Token(False, "answers HTTP 429 when asked for a token", refused=True),
    ],
)
async def test_one_that_is_busy_with_others_is_not(monkeypatch, token):
    monkeypatch.setattr(watch, "_PROBE_TIME", (0.01, 0.01))
    async with supervised(at_once, stall_timeout=0.02) as stage:
        await stage.until(Phase.READY)
        busy = stage.lives[0]
        busy.token, busy.made, busy.advance = token, 0.0, 1.0
        end = stage.supervisor.begin()
        await stage.until_asked(busy, 3)
        assert stage.supervisor.phase is Phase.READY
        busy.advance = 0.0
        await stage.until(Phase.BACKING_OFF, Phase.STARTING)
        end()
        await stage.until(Phase.READY)
        assert (
            stage.told[-3].reason == f"backing_off: hangs: {token.why_not}, and nothing else moves"
        )


async def test_one_whose_replies_move_while_it_is_asked_is_not_either():
    async with supervised(at_once, stall_timeout=0.02) as stage:
        await stage.until(Phase.READY)
        life = stage.lives[0]
        life.token, life.moves = Token(False, "made no token within 1 s"), True
        end = stage.supervisor.begin()
        await stage.until_asked(life, 3)
        assert stage.supervisor.phase is Phase.READY
        life.moves = False
        await stage.until(Phase.BACKING_OFF, Phase.STARTING)
        end()


async def test_at_rest_it_is_asked_for_a_token_now_and_then(monkeypatch):
    monkeypatch.setattr("backends.launch.activity.PROBE_WHEN_IDLE", 0.01)
    monkeypatch.setattr(watch, "_TICK", 0.01)
    async with supervised(at_once) as stage:
        await stage.until(Phase.READY)
        await stage.until_asked(stage.lives[0], 3)
        stage.lives[0].token = Token(False, "answers HTTP 500 when asked for a token")
        await stage.until_lives(2)

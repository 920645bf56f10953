from __future__ import annotations

import asyncio
from typing import Any

import pytest

from backends.launch import watch
from backends.launch.activity import Activity, Look
from backends.launch.doubt import Token
from backends.launch.phase import Phase
from tests.support.supervised import at_once, supervised
from tests.support.until import until


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

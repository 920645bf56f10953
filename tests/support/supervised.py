"""A supervisor of engines without a process, whose lives do what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace

from backends.launch.doubt import Token
from backends.launch.life import EngineFailedError
from backends.launch.phase import Phase
from backends.launch.restarts import Restarts
from backends.launch.supervisor import Supervisor
from backends.options import Launch
from backends.process import Ended
from backends.readiness import Readiness
from backends.units import Timeout
from tests.support.until import until

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
        await until(lambda: self.supervisor.phase in phases, every=0)

    async def until_lives(self, count: int) -> None:
        await until(lambda: len(self.lives) >= count, every=0)

    async def until_asked(self, life: ScriptedLife, tokens: int) -> None:
        await until(lambda: life.tokens_asked >= tokens, every=0)


@asynccontextmanager
async def supervised(
    *starts: Start,
    wake: bool = True,
    uniform: Callable[[float, float], float] = lambda _, most: most / 100,
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

"""One run of an engine: its process, and the adapter that speaks to it. A restart is another life.

It listens on a Unix socket in a folder that only the gateway's user can enter. So there is no port
that somebody could take in between, and nobody else on the machine can reach the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence

import msgspec

from backends.base import Adapter, BackendError
from backends.launch.argv import command_line, environment
from backends.launch.doubt import Token
from backends.launch.run_folder import RunFolder
from backends.options import Launch, LaunchableOptions
from backends.process import ChildProcess, Ended, LogSink, ProcessError
from backends.token_probe import TokenProbe

_FIRST_LOOK = 0.05
_SLOWEST_LOOK = 1.0
_SHOWN_LINES = 3
_SHOWN_LENGTH = 200
"""Characters of each of them."""
_ERROR = re.compile(r"error|fail|fatal|exception|abort|assert|out of memory|cannot", re.IGNORECASE)
_ADAPTERS_TIME = 30.0
"""Seconds that all its adapters together may keep an engine from its first request."""
_SETTLE_TIME = 0.25
"""Seconds from the end of its requests to SIGTERM: llama-server's handler takes a lock that its
loop holds while it takes note of a client that has left, and now and then waits there for good."""


class EngineFailedError(Exception):
    """The engine did not become ready, or ceased to be; the message says why."""


class CommandMissingError(EngineFailedError):
    """There is nothing to start."""


class Life:
    """Whoever starts it must `end` it."""

    def __init__(
        self,
        name: str,
        options: LaunchableOptions,
        launch: Launch,
        folder: RunFolder,
        socket: str,
        log: LogSink,
        wanted: Callable[[], frozenset[Adapter]],
        withheld: frozenset[str] = frozenset(),
    ) -> None:
        """`name` is the backend's; `options` has `launch`; `socket` is a name in `folder`.

        `wanted` are the adapters that it shall have: these may change while it lives. `withheld`
        are variables of our environment that are not for it.
        """
        self._launch = launch
        self._folder = folder
        self._socket = folder.path / socket
        self._wanted = wanted
        self._env = environment(options, os.environ, withheld)
        self.over = ""
        """Why it has ended, or is about to."""
        self.address = f"unix:{self._socket}"
        self.adapter = msgspec.structs.replace(options, replicas=(self.address,)).connect(name)
        self._probe = TokenProbe(self.adapter, self.address, options.model or name)
        self.process = ChildProcess(
            command_line(options, str(self._socket)),
            env=self._env,
            log=log,
            stop_timeout=launch.stop_timeout,
        )

    async def start(self) -> None:
        """Until it has made its first token. Raises `EngineFailedError`."""
        command = self.process.argv[0]
        if (why := missing(command, self._env)) is not None:
            raise CommandMissingError(why)
        self._socket.unlink(missing_ok=True)
        try:
            await self.process.start()
        except ProcessError as error:
            raise EngineFailedError(str(error)) from None
        if self.process.pid is not None:
            self._folder.note(self.process.pid)
        limit = self._launch.start_timeout
        ready = asyncio.create_task(self._until_ready())
        ended = asyncio.create_task(self.process.wait())
        try:
            await asyncio.wait({ready, ended}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise EngineFailedError(self.obituary(ended.result()))
            if not ready.done():
                raise EngineFailedError(f"made no token within {limit:g} s of its start")
            ready.result()
        finally:
            for task in (ready, ended):
                task.cancel()
            await asyncio.gather(ready, ended, return_exceptions=True)

    async def make_token(self, within: float) -> Token:
        """See `TokenProbe`."""
        return await self._probe.make_token(within)

    async def steps(self, within: float) -> float | None:
        """See `TokenProbe`."""
        return await self._probe.steps(within)

    async def take_adapters(self) -> None:
        """Have what is wanted before requests for it are sent.

        Whoever owns the adapters tries again what fails here or takes too long, and tells it.
        """
        wanted = self._wanted()
        with contextlib.suppress(BackendError, TimeoutError):
            async with asyncio.timeout(_ADAPTERS_TIME):
                has = await self.adapter.find_adapters(self.address, wanted)
                for one in wanted - has:
                    with contextlib.suppress(BackendError):
                        await self.adapter.load_adapter(self.address, one)

    async def end(self, *, kill: bool) -> None:
        """Stop the engine, or kill it where it would not listen; replies still open are cut."""
        try:
            # Connections first: some engines wait for their streams to be left.
            await self.adapter.stop()
            if not kill and self.process.ended is None:
                await asyncio.sleep(_SETTLE_TIME)
        finally:
            await (self.process.kill() if kill else self.process.stop())
        if self.process.pid is not None:
            self._folder.forget(self.process.pid)
        with contextlib.suppress(OSError):
            self._socket.unlink(missing_ok=True)

    def obituary(self, ended: Ended) -> str:
        """How it has ended, with its last words."""
        words = last_words(self.process.last_lines)
        return f"{ended}: {words}" if words else str(ended)

    async def _until_ready(self) -> None:
        wait = _FIRST_LOOK
        while not (await self.adapter.probe(self.address)).ready:
            await asyncio.sleep(wait)
            wait = min(wait * 1.5, _SLOWEST_LOOK)
        while not (await self.make_token(self._launch.start_timeout)).made:
            await asyncio.sleep(_SLOWEST_LOOK)
        await self.take_adapters()


def last_words(lines: Sequence[str]) -> str:
    """What to tell of the end of a log: the last lines that look like errors, else the last ones.

    An engine that dies while it answers has written of its slots last, and that helps nobody.
    """
    distinct = list(dict.fromkeys(lines))
    told = [line for line in distinct if _ERROR.search(line)] or distinct
    return " | ".join(
        line if len(line) <= _SHOWN_LENGTH else f"{line[:_SHOWN_LENGTH]}…"
        for line in told[-_SHOWN_LINES:]
    )


def missing(command: str, env: Mapping[str, str]) -> str | None:
    """Why `command` cannot be run with the variables `env`, if so."""
    if shutil.which(command, path=env.get("PATH")) is not None:
        return None
    where = "is no executable" if "/" in command else "is not on PATH"
    return f"{command} {where}: install it, or say where it is under `launch.command`"


LifeMaker = Callable[[int], Life]
"""Makes the next life; the number tells it from those before."""

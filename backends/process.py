"""THE owner of one child process: started, watched, stopped, and never left behind.

Rules of this file:

- A child is run by `backends/tether.py`, over whose socket this process knows at once when the
  child ends, and over which the child ends when this process does, killed or not.
- Stopping is SIGTERM to the command, its own grace, and then SIGKILL to all that is left of it.
- Output is read by a thread of its own, so that neither a chatty child nor a slow disk holds up
  the event loop; nothing of it is kept here but its last lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec

_TETHER = Path(__file__).with_name("tether.py")
_LAST_LINES = 20
_LONGEST_LINE = 4096
"""Bytes of a line of output; a longer one is cut into several."""
_START_TIME = 20.0
"""Seconds for the tether to say that the command runs: a thousand times what it takes."""
_KILL_TIME = 5.0
"""Seconds from SIGKILL until the child must be gone, and its output read."""
_LAST_WORDS_TIME = 1.0
"""Seconds from its end that its output may take: nobody else holds the pipe for longer."""

LogSink = Callable[[str], None]
"""Takes one line of output, without its line break. Called by a thread of the child's own."""


class Ended(msgspec.Struct, frozen=True):
    """How a child has ended; neither is known where its tether was killed."""

    code: int | None = None
    """The exit code, unless a signal ended it."""
    signal: int | None = None

    def __str__(self) -> str:
        if self.signal is not None:
            return f"was ended by {_name_of(self.signal)}"
        return "was lost" if self.code is None else f"ended with exit code {self.code}"


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal: all but two have none
        return f"signal {number}"


class ProcessError(Exception):
    """The child could not be started; the message says why and holds no secret."""


class ChildProcess:
    """One command, run once. Whoever starts it must `stop` it."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        log: LogSink | None = None,
        stop_timeout: float = 30.0,
    ) -> None:
        """`argv[0]` is a path, or a name that is looked for on PATH.

        `env` is its whole environment, by default this process's own. It has `stop_timeout`
        seconds between SIGTERM and SIGKILL.
        """
        self.argv = tuple(argv)
        self.pid: int | None = None
        """The command's own, and its process group's; None before `start`."""
        self._env = env
        self._cwd = cwd
        self._stop_timeout = stop_timeout
        self._output = _Output(log)
        self._tether: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._watch: asyncio.Task[None] | None = None
        self._ended: asyncio.Future[Ended] | None = None

    async def start(self) -> None:
        """Run the command; returns when it runs. Raises `ProcessError`."""
        assert self._tether is None, "a child is started once"
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        running: asyncio.Future[None] = loop.create_future()
        self._line, theirs = socket.socketpair()
        self._line.setblocking(False)
        try:
            self._tether = self._run(theirs)
        except OSError as error:
            self._line.close()
            raise ProcessError(f"{self.argv[0]} cannot be started: {error.strerror}") from error
        finally:
            theirs.close()
        assert self._tether.stdout is not None
        self._output.start(self._tether.stdout, loop)
        self._watch = asyncio.create_task(self._follow(self._line, running))
        try:
            async with asyncio.timeout(_START_TIME):
                await running
        except TimeoutError:
            await self.kill()
            raise ProcessError(f"{self.argv[0]} did not start in {_START_TIME:g} s") from None
        except BaseException:
            await self.kill()
            raise

    @property
    def ended(self) -> Ended | None:
        """How it has ended; None while it runs, or where it was never started."""
        if self._ended is None or not self._ended.done():
            return None
        return self._ended.result()

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The end of its output, for an error."""
        return tuple(self._output.last)

    async def wait(self) -> Ended:
        """Until the command has ended, by itself or not."""
        assert self._ended is not None, "nothing to wait for before start"
        return await asyncio.shield(self._ended)

    def send_signal(self, sig: signal.Signals) -> None:
        """Send a signal to the command, if it still runs."""
        if self.pid is not None and self.ended is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    async def stop(self) -> None:
        """SIGTERM, the grace, SIGKILL to all that is left; returns when all is gone. Idempotent."""
        if self._ended is not None and not self._ended.done():
            # A stopped process takes no SIGTERM before it goes on.
            self.send_signal(signal.SIGTERM)
            self.send_signal(signal.SIGCONT)
            await asyncio.wait([self._ended], timeout=self._stop_timeout)
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL to the command and all it has started; returns when all is gone. Idempotent."""
        if self._watch is None or self._line is None or self._tether is None:
            return
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_WR)
        await asyncio.wait([self._watch], timeout=_KILL_TIME)
        if not self._watch.done():
            self._tether.kill()
            await asyncio.wait([self._watch], timeout=_KILL_TIME)
        self._kill_group()
        self._watch.cancel()
        await asyncio.gather(self._watch, return_exceptions=True)

    def _run(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        tether = [sys.executable, "-I", "-S", str(_TETHER)]
        return subprocess.Popen(  # noqa: S603 — the operator's own command
            [*tether, *self.argv],
            env=None if self._env is None else dict(self._env),
            cwd=self._cwd,
            stdin=theirs.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    async def _follow(self, line: socket.socket, running: asyncio.Future[None]) -> None:
        """Take down what the tether says, until it is gone."""
        assert self._ended is not None
        loop = asyncio.get_running_loop()
        said = b""
        try:
            with contextlib.suppress(OSError):
                while data := await loop.sock_recv(line, 1024):
                    *lines, said = (said + data).split(b"\n")
                    for one in lines:
                        await self._take(one.decode("ascii", "replace"), running)
        finally:
            line.close()
            await self._bury()
            if not running.done():
                running.set_exception(ProcessError(f"{self.argv[0]} cannot be started"))
            if not self._ended.done():
                self._ended.set_result(Ended())

    async def _take(self, said: str, running: asyncio.Future[None]) -> None:
        assert self._ended is not None
        word, _, number = said.partition(" ")
        if word == "pid":
            self.pid = int(number)
            running.set_result(None)
        elif word == "exit" and not self._ended.done():
            # Whoever waits for the end tells of the last words, and they may still be in the pipe.
            await self._output.end(_LAST_WORDS_TIME)
            code = os.waitstatus_to_exitcode(int(number))
            self._ended.set_result(Ended(code=code) if code >= 0 else Ended(signal=-code))

    async def _bury(self) -> None:
        """The tether's end is no more than a moment away: wait for it, and for the last words."""
        assert self._tether is not None
        if not await self._tether_is_gone():
            self._tether.kill()
            # One that waits for a disk for good is not waited for: there is nothing else to do.
            await self._tether_is_gone()
        self._kill_group()
        await self._output.end(_KILL_TIME)

    async def _tether_is_gone(self) -> bool:
        """Whether it is, within the time it may take."""
        assert self._tether is not None
        for _ in range(int(_KILL_TIME / 0.01)):
            if self._tether.poll() is not None:
                return True
            await asyncio.sleep(0.01)
        return False

    def _kill_group(self) -> None:
        """Where the tether itself was killed, or on a system where it cannot reap: what is left."""
        if self.pid is not None and (self.ended is None or self.ended == Ended()):
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)


class _Output:
    """Reads what a child says, in a thread, to its end."""

    def __init__(self, log: LogSink | None) -> None:
        self.last: deque[str] = deque(maxlen=_LAST_LINES)
        self._log = log
        self._over = asyncio.Event()
        self._started = False

    def start(self, pipe: IO[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self._started = True
        threading.Thread(
            target=self._read, args=(pipe, loop), name="child-output", daemon=True
        ).start()

    async def end(self, timeout: float) -> None:
        """Until all has been read; a grandchild that holds on to the pipe is not waited for."""
        if self._started:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._over.wait()

    def _read(self, pipe: IO[bytes], loop: asyncio.AbstractEventLoop) -> None:
        with pipe:
            while line := pipe.readline(_LONGEST_LINE):
                text = line.decode("utf-8", "replace").rstrip()
                if text:
                    self._take(text)
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(self._over.set)

    def _take(self, line: str) -> None:
        self.last.append(line)
        if self._log is not None:
            # A log that cannot be written is no reason to let the child's pipe fill up.
            with contextlib.suppress(OSError):
                self._log(line)

"""Engines that are treated badly: this program's own llama-servers, and what the gateway starts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

from bench.chaos.vitals import below
from tools.engines import ENGINES

MODEL = Path(__file__).parents[2] / "models" / "tiny-tale"
GGUF = MODEL / "tiny-tale-f32.gguf"
ARGUMENTS = (
    "--ctx-size", "8192", "--parallel", "4", "--threads", "1", "--threads-http", "32", "--jinja",
    "--metrics", "--offline", "--no-ui",
)  # fmt: skip
_ENDING = 10.0


def binary() -> Path:
    """The llama-server that `make engines` builds. Raises `SystemExit` where it has not."""
    found = ENGINES["llama-server"].find()
    if found is None:
        raise SystemExit("llama-server is not built: `make engines` builds it once")
    return found


class OwnEngine:
    """A llama-server on a fixed port, whatever happens to it. Whoever starts it must `stop` it."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it is asked."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it; whoever asks finds out when it is ready."""
        await self.stop()
        where = ("--host", "127.0.0.1", "--port", str(self.port), "--alias", "tiny-tale")
        command = [str(binary()), "--model", str(GGUF), *where, *ARGUMENTS]
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)

    def send(self, sig: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(sig)

    async def stop(self) -> None:
        """End it, by force where it does not obey."""
        if self._process is None:
            return
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(_ENDING):
                await self._process.wait()
        except TimeoutError:
            self.send(signal.SIGKILL)
            await self._process.wait()
        self._process = None


class LaunchedEngine:
    """An engine that the gateway has started, as its operating system sees it."""

    def __init__(self, gateway: int, is_it: Callable[[int], bool]) -> None:
        """`is_it` knows the engine among the processes below the gateway."""
        self._gateway = gateway
        self._is_it = is_it
        self._frozen: int | None = None

    def kill(self) -> None:
        """kill -9, if it runs: the gateway starts another one."""
        self._signal(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP."""
        self._frozen = self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT to the one that was frozen; the gateway may have ended it meanwhile."""
        if self._frozen is not None and self._frozen in self._found():
            os.kill(self._frozen, signal.SIGCONT)
        self._frozen = None

    def _signal(self, sig: signal.Signals) -> int | None:
        for pid in self._found():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sig)
                return pid
        return None

    def _found(self) -> list[int]:
        return [pid for pid in below(self._gateway) if self._is_it(pid)]


def is_llama_server(pid: int) -> bool:
    """Whether a process runs llama-server itself, not what holds one."""
    try:
        return Path(f"/proc/{pid}/exe").resolve(strict=True) == binary().resolve()
    except OSError:
        return False


def is_isolated(pid: int) -> bool:
    """Whether a process runs an engine that the gateway has in a process of its own."""
    try:
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return _CHILD in argv and not any(b"tether" in one for one in argv[: argv.index(_CHILD)])


_CHILD = b"backends.isolation.child"

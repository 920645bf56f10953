"""llama-servers that are treated badly: this program's own, and those that the gateway starts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
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
    """The llama-server that the gateway has started, as its operating system sees it."""

    def __init__(self, gateway: int) -> None:
        self._gateway = gateway
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
        """Of the processes below the gateway, those that run llama-server themselves."""
        return [pid for pid in below(self._gateway) if _executable(pid) == binary().resolve()]


def _executable(pid: int) -> Path | None:
    try:
        return Path(f"/proc/{pid}/exe").resolve(strict=True)
    except OSError:
        return None

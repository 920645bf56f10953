"""A gateway over llama-servers, two of ours and one that it starts itself, and over MLX, in its
own process and in another. All have the same weights.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.chaos.engines import (
    ARGUMENTS,
    GGUF,
    MODEL,
    LaunchedEngine,
    OwnEngine,
    binary,
    is_isolated,
    is_llama_server,
)
from bench.chaos.schedule import Deed, What
from bench.processes import free_ports, running

OWN = 2
ENGINES = OWN + 2
"""Those that can be disturbed: our own, and the two that the gateway starts."""
REPLICAS = ENGINES + 1
"""As the gateway counts them: one is in its process, and cannot be disturbed."""
MODELS = ("own", "started", "apart", "here")
"""Names under which each backend can be asked alone."""
DISTURBED = "tale"
"""The model that has them all."""
_BUGS = ("Traceback", "a bug of the gateway", "never retrieved", "never awaited")
TOTAL = 30.0


class House:
    """What runs, and what can be done to it."""

    def __init__(self, file: Path, log: Path, pid: int, port: int, own: list[OwnEngine]) -> None:
        self.pid = pid
        self.url = f"http://127.0.0.1:{port}"
        self._file = file
        self._log = log
        self._port = port
        self._own = own
        self._launched = (LaunchedEngine(pid, is_llama_server), LaunchedEngine(pid, is_isolated))
        self._share = 20

    async def do(self, deed: Deed) -> None:
        """Do it, and return at once."""
        match deed.what:
            case What.WEIGH:
                self._share = deed.share
                self.save(OWN)
            case What.LEAVE_OUT:
                self.save(OWN - 1)
            case What.HANG_UP:
                self.save(OWN)
                os.kill(self.pid, signal.SIGHUP)
            case _ if deed.engine is not None and deed.engine >= OWN:
                _to_launched(self._launched[deed.engine - OWN], deed.what)
            case _ if deed.engine is not None:
                await self._to_own(self._own[deed.engine], deed.what)

    def save(self, replicas: int) -> None:
        """Put a routing.yaml in its place in one step, as editors do."""
        draft = self._file.with_suffix(".new")
        draft.write_text(routing(self._port, self._own[:replicas], self._share))
        draft.replace(self._file)

    async def mend(self) -> None:
        """Everything as it was in the beginning."""
        for engine in self._own:
            await engine.start()
        for launched in self._launched:
            launched.thaw()
        self.save(OWN)

    def bugs(self) -> list[str]:
        """Lines of the gateway's log that tell of something nobody has thought of."""
        lines = self._log.read_text(errors="replace").splitlines()
        return [line for line in lines if any(sign in line for sign in _BUGS)]

    async def _to_own(self, engine: OwnEngine, what: What) -> None:
        signals = {
            What.KILL: signal.SIGKILL,
            What.RESTART: signal.SIGTERM,
            What.FREEZE: signal.SIGSTOP,
            What.THAW: signal.SIGCONT,
        }
        if what is What.START:
            await engine.start()
        else:
            engine.send(signals[what])


def _to_launched(engine: LaunchedEngine, what: What) -> None:
    match what:
        case What.KILL:
            engine.kill()
        case What.FREEZE:
            engine.freeze()
        case What.THAW:
            engine.thaw()


def routing(port: int, own: list[OwnEngine], share: int) -> str:
    """The file: `share` percent of the requests go to MLX in this process, the rest elsewhere."""
    launch = {"model": str(GGUF), "command": str(binary()), "args": list(ARGUMENTS)}
    rest = (100 - share) / 4
    arms = {"own": 2 * rest, "started": rest, "apart": rest, "here": float(share)}
    timeouts = {"connect": "2s", "first_token": "5s", "idle": "2s", "total": f"{TOTAL:g}s"}
    document: dict[str, Any] = {
        "server": {"port": port},
        "backends": {
            "own": {"use": "llama_server", "replicas": [engine.url for engine in own]},
            "started": {
                "use": "llama_server",
                "launch": {**launch, "stall_timeout": "5s", "stop_timeout": "3s"},
            },
            "apart": {"use": "mlx", "model": str(MODEL), "isolation": "process"},
            "here": {"use": "mlx", "model": str(MODEL)},
        },
        "models": {
            **{name: {"backend": name, "model": "tiny-tale"} for name in ("own", "started")},
            "apart": {"backend": "apart"},
            "here": {"backend": "here", "checkpoint": "tale"},
            DISTURBED: {
                "variants": {
                    name: {"backend": name, "weight": weight, "checkpoint": "tale"}
                    for name, weight in arms.items()
                },
                "sticky": "none",
                "timeouts": timeouts,
                "fallback": ["here"],
            },
        },
        "telemetry": {"access_log": False},
    }
    return json.dumps(document, indent=1)  # JSON is YAML


@asynccontextmanager
async def house(directory: Path) -> AsyncIterator[House]:
    """Everything started and ready; ended afterwards."""
    *ports, port = free_ports(OWN + 1)
    own = [OwnEngine(one, directory / f"llama-server-{one}.log") for one in ports]
    file = directory / "routing.yaml"
    file.write_text(routing(port, own, 20))
    state = f"XDG_STATE_HOME={directory}"
    command = ["env", state, sys.executable, "-m", "gateway", "serve", str(file)]
    async with AsyncExitStack() as stack:
        for engine in own:
            stack.push_async_callback(engine.stop)
            await engine.start()
        log = directory / "gateway.log"
        log.unlink(missing_ok=True)
        pid = await stack.enter_async_context(running(command, port, output=log))
        yield House(file, log, pid, port, own)


def new_client(url: str, connections: int) -> httpx.AsyncClient:
    """A client that waits as long as it is let."""
    limits = httpx.Limits(max_connections=connections)
    return httpx.AsyncClient(base_url=url, timeout=None, limits=limits, trust_env=False)

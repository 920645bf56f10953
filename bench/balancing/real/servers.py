"""llama-servers behind a real gateway: a model for each policy, with engines of its own.

So policies can take turns in short slices without seeing what another one has left in a cache.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from bench.processes import cpu_seconds, free_ports, running
from tools.engines import ENGINES

GGUF = Path(__file__).parents[3] / "models" / "tiny-tale" / "tiny-tale-f32.gguf"
CONTEXT = 2048
"""Tokens of a slot."""


class Engines(NamedTuple):
    """What stands behind each model."""

    number: int = 4
    slots: int = 4
    """Of each: as many prompts as it remembers, the longest unused going first."""

    def command(self, binary: Path, port: int) -> list[str]:
        """How one is started: on one thread, and without a second cache beside its slots."""
        return [
            *(str(binary), "--model", str(GGUF), "--host", "127.0.0.1", "--port", str(port)),
            *("--parallel", str(self.slots), "--ctx-size", str(CONTEXT * self.slots)),
            *("--no-kv-unified", "--cache-ram", "0"),
            *("--threads", "1", "--threads-http", "32", "--jinja", "--metrics"),
        ]


class Place(NamedTuple):
    """Where one policy is asked."""

    port: int
    model: str
    engines: tuple[int, ...]
    """Process ids."""

    def cpu_seconds(self) -> float:
        """Of its engines, so far."""
        return sum(map(cpu_seconds, self.engines))


@asynccontextmanager
async def places(
    directory: Path, engines: Engines, policies: Sequence[str]
) -> AsyncIterator[dict[str, Place]]:
    """By policy, with all engines ready. Raises `RuntimeError` where there is no llama-server."""
    binary = ENGINES["llama-server"].find()
    if binary is None:
        raise RuntimeError("there is no llama-server: `make engines` builds it")
    port, *free = free_ports(1 + engines.number * len(policies))
    async with AsyncExitStack() as stack:
        found: dict[str, Place] = {}
        ports: dict[str, list[int]] = {}
        for policy in policies:
            ports[policy] = [free.pop() for _ in range(engines.number)]
            started = []
            for one in ports[policy]:
                log = directory / f"engine-{one}.log"
                process = running(engines.command(binary, one), one, output=log, path="/health")
                started.append(await stack.enter_async_context(process))
            found[policy] = Place(port, policy, tuple(started))
        config = directory / "routing.yaml"
        config.write_text(_routing_yaml(port, ports))
        command = [sys.executable, "-m", "gateway", "serve", str(config)]
        process = running(command, port, output=directory / "gateway.log")
        await stack.enter_async_context(process)
        yield found


def _routing_yaml(port: int, ports: Mapping[str, Sequence[int]]) -> str:
    # A busy machine takes its time for everything, also for taking connections.
    patient = "timeouts: {connect: 60s, first_token: 300s, total: 300s}"
    backends, models = [], []
    for policy, engines in ports.items():
        replicas = ", ".join(f"http://127.0.0.1:{engine}" for engine in engines)
        backends.append(f"  {policy}: {{use: llama_server, replicas: [{replicas}]}}")
        models.append(f"  {policy}: {{backend: {policy}, balance: {policy}, {patient}}}")
    return "\n".join(
        [
            f"server: {{host: 127.0.0.1, port: {port}, drain: {{grace: 0s, timeout: 2s}}}}",
            *("backends:", *backends, "models:", *models),
            "telemetry: {access_log: false}",
            "",
        ]
    )

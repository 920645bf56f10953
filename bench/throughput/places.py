"""The servers that are compared: each in a process of its own, with the same weights."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from bench.processes import free_ports, running

MODEL = Path(__file__).parents[2] / "models" / "tiny-tale"
_CLIENT_MODEL = "tale"
_MLX_LM = "from mlx_lm.server import main; main()"


class Place(msgspec.Struct, frozen=True):
    """A server that answers, and how to ask it."""

    name: str
    port: int
    pid: int
    model: str
    concurrency: int


@asynccontextmanager
async def places(
    directory: Path, model: Path, concurrency: int, isolations: list[str]
) -> AsyncIterator[list[Place]]:
    """mlx_lm.server and the gateway, running; the gateway a second time with one at a time."""
    ports = free_ports(1 + len(isolations))
    async with AsyncExitStack() as stack:

        async def start(command: list[str], port: int, name: str, path: str) -> int:
            process = running(command, port, output=directory / f"{name}.log", path=path)
            return await stack.enter_async_context(process)

        command = [sys.executable, "-c", _MLX_LM, "--model", str(model), "--port", str(ports[0])]
        command += ["--decode-concurrency", str(concurrency), "--log-level", "WARNING"]
        pid = await start(command, ports[0], "mlx_lm", "/health")
        found = [Place("mlx_lm.server", ports[0], pid, "default_model", concurrency)]
        for port, isolation in zip(ports[1:], isolations, strict=True):
            config = directory / f"{isolation}.yaml"
            config.write_text(_routing_yaml(port, model, concurrency, isolation))
            command = [sys.executable, "-m", "gateway", "serve", str(config)]
            pid = await start(command, port, isolation, "/ready")
            found.append(Place(f"gateway ({isolation})", port, pid, _CLIENT_MODEL, concurrency))
        first = found[1]
        found.append(Place("gateway, one at a time", first.port, first.pid, first.model, 1))
        yield found


def _routing_yaml(port: int, model: Path, concurrency: int, isolation: str) -> str:
    return (
        f"server: {{host: 127.0.0.1, port: {port}, drain: {{grace: 0s, timeout: 2s}}}}\n"
        "backends:\n"
        f"  mlx: {{use: mlx, model: {model}, max_batch: {concurrency}}}\n"
        f"models: {{{_CLIENT_MODEL}: {{backend: mlx}}}}\n"
    )

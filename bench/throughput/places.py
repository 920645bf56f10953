"""The servers that are compared: each in a process of its own, with the same weights."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from bench.processes import free_ports, running

MODEL = Path(__file__).parents[2] / "models" / "tiny-tale"
_CLIENT_MODEL = "tale"
_MLX_LM = "from mlx_lm.server import main; main()"
_CACHED_PROMPTS = 256
"""For mlx_lm.server, which keeps ten where nothing is said: the gateway is bound by bytes only."""


class Place(msgspec.Struct, frozen=True):
    """A server that answers, and how to ask it."""

    name: str
    port: int
    pid: int
    model: str
    concurrency: int
    single_loop: bool = False
    """Its main thread is the event loop, and does no computing."""


@asynccontextmanager
async def places(
    directory: Path, model: Path, concurrency: int, isolations: Sequence[str]
) -> AsyncIterator[list[Place]]:
    """mlx_lm.server; the gateway in each way; and the first of these with one at a time."""
    ports = free_ports(1 + len(isolations))
    async with AsyncExitStack() as stack:

        async def start(command: list[str], port: int, name: str, path: str) -> int:
            process = running(command, port, output=directory / f"{name}.log", path=path)
            return await stack.enter_async_context(process)

        command = _mlx_lm_server(ports[0], model, concurrency)
        pid = await start(command, ports[0], "mlx_lm", "/health")
        found = [Place("mlx_lm.server", ports[0], pid, "default_model", concurrency)]
        for port, isolation in zip(ports[1:], isolations, strict=True):
            config = directory / f"{isolation}.yaml"
            config.write_text(_routing_yaml(port, model, concurrency, isolation))
            command = [sys.executable, "-m", "gateway", "serve", str(config)]
            pid = await start(command, port, isolation, "/ready")
            name = f"gateway, {isolation}"
            found.append(Place(name, port, pid, _CLIENT_MODEL, concurrency, single_loop=True))
        one = msgspec.structs.replace(found[1], name="gateway, one at a time", concurrency=1)
        yield [*found, one]


def _mlx_lm_server(port: int, model: Path, concurrency: int) -> list[str]:
    command = [sys.executable, "-c", _MLX_LM, "--model", str(model), "--port", str(port)]
    for option, number in (
        ("--decode-concurrency", concurrency),
        ("--prompt-concurrency", concurrency),
        ("--prompt-cache-size", _CACHED_PROMPTS),
    ):
        command += [option, str(number)]
    return [*command, "--log-level", "WARNING"]


def _routing_yaml(port: int, model: Path, concurrency: int, isolation: str) -> str:
    engine = f"use: mlx, model: {model}, max_batch: {concurrency}, isolation: {isolation}"
    return (
        f"server: {{host: 127.0.0.1, port: {port}, drain: {{grace: 0s, timeout: 2s}}}}\n"
        f"backends: {{mlx: {{{engine}}}}}\n"
        f"models: {{{_CLIENT_MODEL}: {{backend: mlx}}}}\n"
    )

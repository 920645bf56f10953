"""A child with the shipped model, started without a supervisor, and a client of it."""

import asyncio
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from backends.base import BackendError
from backends.isolation.options import write_options
from backends.openai_http import OpenAIHttpBackend
from backends.options import MlxOptions, OpenAIOptions

MODEL = Path(__file__).parents[3] / "models" / "tiny-tale"


class Child:
    """The process, and what asks it over its socket."""

    def __init__(self, process, socket):
        self.process = process
        self.backend = OpenAIHttpBackend("child", OpenAIOptions(replicas=(f"unix:{socket}",)))
        (self.address,) = self.backend.addresses

    async def get(self, path):
        return await self.backend.get(self.address, path)

    async def send(self, request):
        return await self.backend.send(self.address, request)

    async def until_ready(self):
        for _ in range(600):
            try:
                return await self.get("/health")
            except BackendError:
                assert self.process.returncode is None, "it has ended"
                await asyncio.sleep(0.05)
        raise AssertionError("it does not listen")


@asynccontextmanager
async def run_child(folder, *, program=("-m", "backends.isolation.child"), **options):
    """`program` is what Python shall run, with the socket and the options behind it."""
    entry = write_options(MlxOptions(**{"model": str(MODEL), **options}))
    socket = folder / "engine.sock"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *program,
        str(socket),
        entry,
        stderr=asyncio.subprocess.PIPE,
    )
    child = Child(process, socket)
    try:
        yield child
    finally:
        await child.backend.stop()
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
async def child(tmp_path):
    async with run_child(tmp_path) as running:
        await running.until_ready()
        yield running

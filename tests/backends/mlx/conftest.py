import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from backends.base import Endpoint, Reply, Request
from backends.inprocess.backend import ADDRESS
from backends.mlx.backend import MlxBackend
from backends.options import MlxOptions

MODEL = Path(__file__).parents[3] / "models" / "tiny-tale"


class Client:
    """Asks one MLX backend, as the gateway does."""

    def __init__(self, backend: MlxBackend) -> None:
        self.backend = backend

    async def send(self, **body: Any) -> Reply:
        endpoint = Endpoint.COMPLETIONS if "prompt" in body else Endpoint.CHAT
        body.setdefault("model", "tiny-tale")
        return await self.backend.send(
            ADDRESS,
            Request(
                endpoint=endpoint,
                body=json.dumps(body).encode(),
                stream=bool(body.get("stream")),
            ),
        )

    async def ask(self, **body: Any) -> dict[str, Any]:
        reply = await self.send(**body)
        return json.loads(b"".join([piece async for piece in reply.body]))

    async def text(self, question: str, **body: Any) -> str:
        answer = await self.ask(messages=user(question), **body)
        return answer["choices"][0]["message"]["content"]

    async def events(self, **body: Any) -> list[dict[str, Any]]:
        reply = await self.send(stream=True, **body)
        raw = b"".join([piece async for piece in reply.body])
        return parse_events(raw)


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def parse_events(raw: bytes) -> list[dict[str, Any]]:
    """The JSON of every event; the stream must end with the end mark, once."""
    *events, done, rest = raw.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    return [json.loads(event.removeprefix(b"data: ")) for event in events]


@asynccontextmanager
async def _open(**options: Any) -> AsyncIterator[Client]:
    backend = MlxOptions(**{"model": str(MODEL), **options}).open("tale")
    assert isinstance(backend, MlxBackend)
    try:
        await backend.start()
        yield Client(backend)
    finally:
        await backend.stop()


@pytest.fixture
def open_client() -> Any:
    """Start a backend with other options than the default ones."""

    def start(**options: Any) -> AbstractAsyncContextManager[Client]:
        return _open(**options)

    return start


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with _open() as opened:
        yield opened


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """The model that ships."""
    return MODEL


@pytest.fixture
def copy(model_dir: Path, tmp_path: Path) -> Path:
    """A copy of the model that may be broken."""
    ignored = shutil.ignore_patterns("*.gguf", "README*")
    return shutil.copytree(model_dir, tmp_path / "copy", ignore=ignored)


def edit_config(directory: Path, **changed: Any) -> None:
    """Change what a model's `config.json` says."""
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))

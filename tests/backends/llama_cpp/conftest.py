import shutil
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from backends.inprocess.backend import InProcessBackend
from backends.options import LlamaCppOptions
from tests.backends.mlx.conftest import Client
from tests.support.engines import GGUF


@asynccontextmanager
async def _open(**options: Any) -> AsyncIterator[Client]:
    backend = LlamaCppOptions(**{"model": str(GGUF), "threads": 1, **options}).open("tale")
    assert isinstance(backend, InProcessBackend)
    try:
        await backend.start()
        yield Client(backend)
    finally:
        await backend.stop()


@pytest.fixture
def open_client(llama_cpp: Path) -> Any:
    """Start a backend with other options than the default ones."""

    def start(**options: Any) -> AbstractAsyncContextManager[Client]:
        return _open(**options)

    return start


@pytest.fixture
async def client(llama_cpp: Path) -> AsyncIterator[Client]:
    async with _open() as opened:
        yield opened


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """Where the model that ships is."""
    return GGUF.parent


@pytest.fixture
def patched(tmp_path: Path) -> Any:
    """A copy of the shipped file with bytes replaced by as many others."""

    def patch(old: bytes, new: bytes, name: str = "patched.gguf") -> Path:
        assert len(old) == len(new)
        content = GGUF.read_bytes()
        assert content.count(old) >= 1
        copy = Path(shutil.copy(GGUF, tmp_path / name))
        copy.write_bytes(content.replace(old, new))
        return copy

    return patch


@pytest.fixture(scope="session")
def model(llama_cpp: Path) -> Any:
    """The model that ships, loaded; read-only."""
    from backends.inprocess.loading import Loading
    from backends.llama_cpp import model as loading
    from backends.llama_cpp.library import import_llama_cpp

    header = loading.header_of(llama_cpp)
    return loading._open(import_llama_cpp(), llama_cpp, header, 0, Loading("tiny-tale"))


@pytest.fixture(scope="session")
def vocabulary(model: Any) -> Any:
    from backends.llama_cpp.vocabulary import Vocabulary

    return Vocabulary(model)

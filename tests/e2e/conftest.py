"""One gateway in front of all engines, and OpenAI's SDK in both of its flavours."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.conftest import VLLM_SERVER
from tests.support import engines
from tests.support.children import Children
from tests.support.engines import (
    GGUF,
    LLAMA_CPP,
    LLAMA_SERVER,
    MODEL,
    MODEL_DIR,
    VLLM,
    EngineServer,
)
from tests.support.gateway import GatewayProcess
from tests.support.launched import QUESTION, read_some
from tools.engines import ENGINES

MLX = "mlx"


class Sdk(Protocol):
    """OpenAI's client; `use` is one call of it, as `lambda client: client.models.list()`."""

    client: Any

    async def __call__(self, use: Callable[[Any], Any]) -> Any: ...

    async def stream(self, use: Callable[[Any], Any]) -> list[Any]: ...


class SyncSdk:
    def __init__(self, client: OpenAI) -> None:
        self.client = client

    async def __call__(self, use: Callable[[Any], Any]) -> Any:
        return await asyncio.to_thread(use, self.client)

    async def stream(self, use: Callable[[Any], Any]) -> list[Any]:
        return await asyncio.to_thread(lambda: list(use(self.client)))


class AsyncSdk:
    def __init__(self, client: AsyncOpenAI) -> None:
        self.client = client

    async def __call__(self, use: Callable[[Any], Any]) -> Any:
        return await use(self.client)

    async def stream(self, use: Callable[[Any], Any]) -> list[Any]:
        return [item async for item in await use(self.client)]


@pytest.fixture(scope="session")
def house(
    request: pytest.FixtureRequest, children: Children, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """A gateway with every engine there is; models are called as the engines are."""
    backends = [f"  {MLX}: {{use: mlx, model: {MODEL_DIR}}}"]
    folder = tmp_path_factory.mktemp("house")
    if ENGINES[LLAMA_SERVER].find():
        llama = request.getfixturevalue("llama_server")
        backends.append(
            f"  {LLAMA_SERVER}: {{use: llama_server, replicas: ['{llama.url}'], model: {MODEL}}}"
        )
    if engines.has_llama_cpp():
        backends.append(f"  {LLAMA_CPP}: {{use: llama_cpp, model: {GGUF}, threads: 1}}")
    vllm = request.config.stash.get(VLLM_SERVER, None)
    if vllm is not None:
        backends.append(f"  {VLLM}: {{use: vllm, replicas: ['{vllm.url}'], model: {MODEL}}}")
    names = [line.split(":")[0].strip() for line in backends]
    models = [
        f"  {name}: {{backend: {name}, aliases: [{name}-alias, org/{name}]}}" for name in names
    ]
    gateway = GatewayProcess(
        children, folder, "\n".join(["backends:", *backends, "models:", *models, ""])
    )
    gateway.wait_ready()
    yield gateway
    gateway.stop()


@pytest.fixture(params=[LLAMA_SERVER, VLLM, MLX, LLAMA_CPP])
def engine(request: pytest.FixtureRequest, house: GatewayProcess) -> str:
    """Each engine in turn: the name of its model in `house`, ready."""
    return prepare(request, house, request.param)


@pytest.fixture(params=[LLAMA_SERVER, VLLM])
def http_engine(request: pytest.FixtureRequest, house: GatewayProcess) -> str:
    """Each engine behind HTTP in turn."""
    return prepare(request, house, request.param)


def prepare(request: pytest.FixtureRequest, house: GatewayProcess, name: str) -> str:
    """Wait until the gateway knows that the engine `name` is ready; skip where it is not built."""
    if name == LLAMA_SERVER:
        engines.require(LLAMA_SERVER)
    elif name == LLAMA_CPP:
        engines.require_llama_cpp()
    elif name == VLLM:
        request.getfixturevalue("vllm_server")
    house.wait_model(name)
    return name


@pytest.fixture(params=["sync", "async"])
async def sdk(request: pytest.FixtureRequest, house: GatewayProcess) -> AsyncIterator[Sdk]:
    """OpenAI's SDK against `house`."""
    if request.param == "sync":
        with house.openai() as client:
            yield SyncSdk(client)
    else:
        async with house.async_openai() as client:
            yield AsyncSdk(client)


@pytest.fixture
def two_llamas(
    start_llama_server: Callable[..., EngineServer],
) -> tuple[EngineServer, EngineServer]:
    """Two llama-servers of the test's own."""
    return start_llama_server(), start_llama_server()


@pytest.fixture
def start(start_gateway, tmp_path):
    def started(text: str, *, wait: bool = True, **env: str) -> GatewayProcess:
        return start_gateway(text, wait=wait, env={"XDG_STATE_HOME": str(tmp_path), **env})

    return started


@pytest.fixture
def stream_of() -> Iterator[Callable[..., Any]]:
    """Begin streams, read a little of each, and hold them open until the test is over."""
    with contextlib.ExitStack() as held:

        def begin(gateway: GatewayProcess, model: str = "tale", **more: Any) -> Any:
            client = held.enter_context(gateway.openai())
            fields = {"max_tokens": 1_000_000, "extra_body": {"ignore_eos": True}, **more}
            stream = client.chat.completions.create(
                model=model, messages=QUESTION, temperature=0, stream=True, **fields
            )
            read_some(stream)
            return stream

        yield begin

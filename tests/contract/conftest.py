"""Every engine with the model that ships, opened as its options open it and asked directly.

`ENGINES` is the list: another kind of engine is another line.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import pytest_asyncio

from backends.capabilities import Capability
from backends.options import LlamaCppOptions, LlamaServerOptions, MlxOptions, Options, VllmOptions
from gateway.conform.asking import Target
from gateway.conform.examine import until_ready
from gateway.conform.finding import Outcome
from tests.support.engines import (
    GGUF,
    LLAMA_CPP,
    LLAMA_SERVER,
    MODEL,
    MODEL_DIR,
    VLLM,
    require_llama_cpp,
)

MLX = "mlx"
MLX_PROCESS = "mlx-process"

_READY_WITHIN = 60.0

Url = Callable[[str], str]
"""Where the server of a fixture listens."""


def _llama_cpp() -> Options:
    require_llama_cpp()
    return LlamaCppOptions(model=str(GGUF), threads=1)


ENGINES: dict[str, Callable[[Url], Options]] = {
    MLX: lambda _: MlxOptions(model=str(MODEL_DIR)),
    MLX_PROCESS: lambda _: MlxOptions(model=str(MODEL_DIR), isolation="process"),
    LLAMA_CPP: lambda _: _llama_cpp(),
    LLAMA_SERVER: lambda url: LlamaServerOptions(replicas=(url("llama_server"),)),
    VLLM: lambda url: VllmOptions(replicas=(url("vllm_server"),)),
}
IN_PROCESS = (MLX, MLX_PROCESS, LLAMA_CPP)
"""Those that refuse by themselves whatever they do not claim; of others, the gateway does."""

_SLOW = (MLX_PROCESS,)
"""Those whose start takes seconds."""


def _parameter(name: str) -> object:
    return pytest.param(name, marks=pytest.mark.slow) if name in _SLOW else name


@pytest.fixture(scope="module", params=[_parameter(name) for name in ENGINES])
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine in turn; `tests/conftest.py` knows by it what a test needs."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def url_of(request: pytest.FixtureRequest) -> Url:
    return lambda fixture: request.getfixturevalue(fixture).url  # type: ignore[no-any-return]


def require_capability(target: Target, capability: Capability) -> None:
    """Skip a test of what the engine of this round does not claim."""
    if capability not in target.backend.capabilities:
        pytest.skip(f"{target.name} does not claim {capability}")


@asynccontextmanager
async def opened(name: str, options: Options) -> AsyncIterator[Target]:
    """One engine, ready to be asked."""
    backend = options.open(name)
    try:
        await backend.start()
        target = Target(name=name, backend=backend, address=backend.addresses[0], model=MODEL)
        ready = await until_ready(target, _READY_WITHIN)
        assert ready.outcome is Outcome.KEPT, ready.detail
        yield target
    finally:
        await backend.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target(engine: str, url_of: Url) -> AsyncIterator[Target]:
    """The engine of this round."""
    async with opened(engine, ENGINES[engine](url_of)) as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def all_targets(
    vllm_server: object, llama_server: object, url_of: Url
) -> AsyncIterator[dict[str, Target]]:
    """All engines at once, by name."""
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(opened(name, options(url_of)))
            for name, options in ENGINES.items()
        }

"""What any test may ask for: real engines, the real gateway, and their logs when it fails."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.garbage import calm_collector
from tests.support import engines
from tests.support.children import Children
from tests.support.engines import EngineServer
from tests.support.gateway import GatewayProcess
from tools.engines import ENGINES

CHILDREN = pytest.StashKey[Children]()
VLLM_SERVER = pytest.StashKey[EngineServer]()

_VLLM_TIMEOUT = 300
"""Seconds for a test with vLLM in it: the first one waits for its start."""

_PROCESSES = {"contract", "e2e", "test_examples.py"}
"""Where tests start whole gateways or load a model each: left out of `make test-quick`."""

StartLlamaServer = Callable[..., EngineServer]
StartGateway = Callable[..., GatewayProcess]


def _wants(item: pytest.Item, engine: str, *fixtures: str) -> bool:
    """Whether a test uses one of `fixtures`, or has `engine` for its engine."""
    callspec = getattr(item, "callspec", None)
    chosen = callspec.params if callspec is not None else {}
    if engine in (chosen.get("engine"), chosen.get("http_engine")):
        return True
    return not {*fixtures}.isdisjoint(getattr(item, "fixturenames", ()))


def _wants_vllm(item: pytest.Item) -> bool:
    return _wants(item, engines.VLLM, "vllm_server")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage among the thousands of tests: that is a seventh of the time they take."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        calm_collector()


@pytest.hookimpl(tryfirst=True)  # before `-m engine` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _wants(item, engines.LLAMA_SERVER, "llama_server", "start_llama_server"):
            item.add_marker("engine")
        if _wants(item, engines.LLAMA_CPP, "llama_cpp"):
            item.add_marker("engine")
        if _wants_vllm(item):
            item.add_marker("engine")
            item.add_marker(pytest.mark.timeout(_VLLM_TIMEOUT))
        if _PROCESSES.intersection(item.path.parts):
            item.add_marker("slow")
    items.sort(key=_wants_vllm)  # while it loads, the others run


def pytest_configure(config: pytest.Config) -> None:
    config.stash[CHILDREN] = Children()


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[CHILDREN].stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for child in item.config.stash[CHILDREN]:
            report.sections.append((f"end of the log of {child.name}", child.tail()))
    return report


@pytest.fixture(scope="session")
def children(pytestconfig: pytest.Config) -> Children:
    """The owner of every process that tests start."""
    return pytestconfig.stash[CHILDREN]


@pytest.fixture(scope="session", autouse=True)
def _vllm_starts_early(
    request: pytest.FixtureRequest, children: Children, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Start vLLM before the first test if any will need it: it loads while the others run."""
    if any(map(_wants_vllm, request.session.items)) and ENGINES[engines.VLLM].find():
        folder = tmp_path_factory.mktemp(engines.VLLM)
        request.config.stash[VLLM_SERVER] = engines.start_vllm(children, folder)


@pytest.fixture(scope="session")
def vllm_server(pytestconfig: pytest.Config, _vllm_starts_early: None) -> EngineServer:
    """The one vLLM of the session, ready."""
    engines.require(engines.VLLM)
    server = pytestconfig.stash[VLLM_SERVER]
    server.wait_ready()
    return server


@pytest.fixture(scope="session")
def llama_server(children: Children, tmp_path_factory: pytest.TempPathFactory) -> EngineServer:
    """A llama-server for all tests that leave it as it was, ready."""
    server = engines.start_llama_server(children, tmp_path_factory.mktemp(engines.LLAMA_SERVER))
    server.wait_ready()
    return server


@pytest.fixture(scope="session")
def llama_cpp() -> Path:
    """The GGUF file of the model that ships, where llama.cpp can load it into this process."""
    engines.require_llama_cpp()
    return engines.GGUF


@pytest.fixture
def start_llama_server(children: Children, tmp_path: Path) -> Iterator[StartLlamaServer]:
    """Start llama-servers of one's own, with more arguments if need be; ready when returned."""
    started: list[EngineServer] = []

    def start(*extra: str) -> EngineServer:
        server = engines.start_llama_server(children, tmp_path / engines.LLAMA_SERVER, *extra)
        started.append(server)
        server.wait_ready()
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def start_gateway(children: Children, tmp_path: Path) -> Iterator[StartGateway]:
    """Start gateways of one's own from the text of a routing.yaml; ready when returned."""
    started: list[GatewayProcess] = []

    def start(text: str, *, wait: bool = True, **options: Any) -> GatewayProcess:
        gateway = GatewayProcess(children, tmp_path / f"gateway-{len(started)}", text, **options)
        started.append(gateway)
        if wait:
            gateway.wait_ready()
        return gateway

    yield start
    for gateway in started:
        gateway.stop()

"""Real engines as child processes on the loopback, with the tiny model that ships.

How each is started, and why with these settings, is said in tools/engines/README.md.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.children import Child, Children
from tools.engines import ENGINES

MODEL_DIR = Path(__file__).parents[2] / "models" / "tiny-tale"
MODEL = "tiny-tale"
"""What the engines call it."""
LLAMA_SERVER = "llama-server"
VLLM = "vllm"
LLAMA_CPP = "llama_cpp"
"""llama.cpp in this process, from the wheel that `make engines` builds and `make test` installs."""
GGUF = MODEL_DIR / "tiny-tale-f32.gguf"
HOST = "127.0.0.1"

_READY = {LLAMA_SERVER: 30.0, VLLM: 180.0}
"""Seconds until `/health` must be ok: several times what an idle machine needs."""

LLAMA_ARGUMENTS = (
    "--ctx-size", "16384", "--parallel", "4", "--threads", "1", "--threads-http", "64",
    "--sse-ping-interval", "1", "--jinja", "--metrics", "--slots", "--offline", "--no-ui",
)  # fmt: skip
VLLM_ARGUMENTS = (
    "--dtype", "float32", "--enforce-eager", "--max-model-len", "2048", "--max-num-seqs", "16",
    "--kv-cache-memory-bytes", "128M", "--distributed-executor-backend", "uni",
    "--generation-config", "vllm", "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
    "--enable-prompt-tokens-details",
)  # fmt: skip
# On a CPU, a request without an adapter gets what is in the last place where it shares a batch
# with one that has one: places enough, and the last one stays empty.
VLLM_LORA_ARGUMENTS = ("--enable-lora", "--max-loras", "8", "--max-lora-rank", "8")
VLLM_LORA_ENVIRONMENT = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
VLLM_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}


def require(name: str) -> Path:
    """The executable of an engine; skips the test where it is not built, and fails in CI."""
    engine = ENGINES[name]
    if found := engine.find():
        return found
    missing = engine.unsupported() or (
        f"{name} {engine.version} is not built: `make engines` builds it once"
    )
    if os.environ.get("CI"):
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


def has_llama_cpp() -> bool:
    """Whether llama.cpp can be loaded into this process."""
    return importlib.util.find_spec("llama_cpp") is not None


def require_llama_cpp() -> None:
    """Skip the test where llama.cpp is not installed; fail it in CI."""
    if has_llama_cpp():
        return
    wheel = require("llama-cpp-python")
    missing = f"llama-cpp-python is built and not installed: pip install --no-deps {wheel}"
    if os.environ.get("CI"):
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


def free_port() -> int:
    """A port of the loopback that nobody listens on at this moment."""
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
        return port


class EngineServer:
    """One engine that serves on a port of its own."""

    def __init__(self, name: str, children: Children, start: Callable[[int], Child]) -> None:
        """`start` runs the engine on a given port."""
        self.name = name
        self.port = free_port()
        self._children = children
        self._start = start
        self.child = self._run()

    @property
    def url(self) -> str:
        """The base URL, as `replicas` in routing.yaml takes it."""
        return f"http://{HOST}:{self.port}"

    def wait_ready(self) -> None:
        """Until `/health` says ok. Raises with the engine's log where it does not."""
        self.child.wait_for(self.is_healthy, _READY[self.name], "/health is not ok")

    def is_healthy(self) -> bool:
        """Whether `/health` says ok now."""
        try:
            return self.get("/health", timeout=2)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def get(self, path: str, timeout: float = 5) -> tuple[int, bytes]:
        """Status and body of a GET, straight to the engine."""
        return self._request("GET", path, None, timeout)

    def post(self, path: str, body: object, timeout: float = 60) -> tuple[int, Any]:
        """Status and JSON answer of a POST, straight to the engine."""
        status, answer = self._request("POST", path, json.dumps(body).encode(), timeout)
        return status, json.loads(answer)

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels; 0 where it has none yet."""
        return sample(self.get("/metrics")[1].decode(), name)

    def busy_slots(self) -> int:
        """llama-server only: how many slots are at work."""
        slots = json.loads(self.get("/slots")[1])
        return sum(slot["is_processing"] for slot in slots)

    def freeze(self) -> None:
        """Hold it still (SIGSTOP): connections stay open, nothing comes."""
        self.child.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.child.send(signal.SIGCONT)

    def kill(self) -> None:
        """kill -9."""
        self.child.kill()

    def restart(self) -> None:
        """Start it again on the same port; returns when it is ready."""
        self._children.discard(self.child)
        self.child = self._run()
        self.wait_ready()

    def stop(self) -> None:
        """End it."""
        self._children.discard(self.child)

    def _run(self) -> Child:
        child = self._start(self.port)
        self._children.add(child)
        return child

    def _request(
        self, method: str, path: str, body: bytes | None, timeout: float
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout)
        try:
            connection.request(method, path, body, {"content-type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def sample(exposition: str, name: str, **labels: str) -> float:
    """The sum of the samples of `name` that carry `labels`, in Prometheus' text format."""
    total = 0.0
    for line in exposition.splitlines():
        series, _, value = line.rpartition(" ")
        found, _, attached = series.partition("{")
        if found == name and all(f'{key}="{want}"' in attached for key, want in labels.items()):
            total += float(value)
    return total


def start_llama_server(children: Children, folder: Path, *extra: str) -> EngineServer:
    """Start llama-server; later arguments win over `LLAMA_ARGUMENTS`. Not ready yet."""
    binary = require(LLAMA_SERVER)
    model = MODEL_DIR / "tiny-tale-f32.gguf"

    def start(port: int) -> Child:
        where = ("--host", HOST, "--port", str(port), "--model", str(model), "--alias", MODEL)
        argv = [binary, *where, *LLAMA_ARGUMENTS, *extra]
        return Child(f"{LLAMA_SERVER}-{port}", argv, folder)

    return EngineServer(LLAMA_SERVER, children, start)


def start_vllm(
    children: Children, folder: Path, *extra: str, env: Mapping[str, str] | None = None
) -> EngineServer:
    """Start vLLM; later arguments win, and `env` too. Not ready yet: that takes 15 to 75 s."""
    binary = require(VLLM)

    def start(port: int) -> Child:
        where = ("--host", HOST, "--port", str(port), "--served-model-name", MODEL)
        argv = [binary, "serve", MODEL_DIR, *where, *VLLM_ARGUMENTS, *extra]
        variables = {**os.environ, **VLLM_ENVIRONMENT, **(env or {})}
        return Child(f"{VLLM}-{port}", argv, folder, env=variables)

    return EngineServer(VLLM, children, start)

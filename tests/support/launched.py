"""Gateways with engines that they start themselves, and the processes below them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from tests.support import engines
from tests.support.children import wait_until
from tests.support.engines import sample
from tests.support.gateway import GatewayProcess

MODEL = engines.MODEL_DIR / "tiny-tale-f32.gguf"
QUESTION = [{"role": "user", "content": "What is the capital of Spain?"}]
ANSWER = "The capital of Spain is Madrid."
ARGS = "[--ctx-size, '8192', --parallel, '2', --threads, '1', --context-shift]"


def launched(*more: str, model: Path | str = MODEL, args: str = ARGS) -> str:
    """The value of `launch`, with further keys."""
    command = engines.require(engines.LLAMA_SERVER)
    keys = [f"model: {model}", f"command: {command}", f"args: {args}", *more]
    return "{" + ", ".join(keys) + "}"


def one(*more: str, replicas: int = 1, **options: Any) -> str:
    """A routing.yaml with one backend, called `local`."""
    launch = launched(*more, **options)
    return (
        f"backends: {{local: {{use: llama_server, replicas: {replicas}, launch: {launch}}}}}\n"
        "models: {tale: {backend: local}}\n"
    )


class Process:
    """Of /proc: a process with its parent and its arguments."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        self.zombie, self.parent = fields[0] == "Z", int(fields[1])
        self.argv = Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace").split("\0")


def processes() -> dict[int, Process]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                process = Process(int(entry.name))
            except OSError:
                continue
            if not process.zombie:
                found[process.pid] = process
    return found


def below(pid: int) -> list[Process]:
    """All descendants of a process, but for the guardian that tests tie the gateway to."""
    guardian = str(Path("tests/support/tether.py"))
    every = {
        one.pid: one
        for one in processes().values()
        if not any(part.endswith(guardian) for part in one.argv)
    }
    chosen = {pid}
    while True:
        more = {one.pid for one in every.values() if one.parent in chosen} - chosen
        if not more:
            return [every[one] for one in chosen - {pid}]
        chosen |= more


def engine_pids(gateway: GatewayProcess) -> list[int]:
    """The engines themselves, by replica: the sockets' names count them."""
    found = [one for one in below(gateway.child.pid) if "--host" in one.argv or "--uds" in one.argv]
    run = [one for one in found if not any("tether" in part for part in one.argv)]
    return [one.pid for one in sorted(run, key=lambda it: it.argv[2:])]


def gone(pids: list[int]) -> bool:
    for pid in pids:
        with contextlib.suppress(OSError):
            if not Process(pid).zombie:
                return False
    return True


def ask(gateway: GatewayProcess, model: str = "tale", **more: Any) -> Any:
    with gateway.openai() as client:
        return client.chat.completions.create(model=model, messages=QUESTION, temperature=0, **more)


def text_of(answer: Any) -> str:
    return answer.choices[0].message.content


def read_some(stream: Any, count: int = 5) -> None:
    for _ in range(count):
        next(stream)


def status(gateway: GatewayProcess, replica: str) -> str:
    """What the metrics say a replica is doing."""
    said = gateway.request("GET", "/metrics")[2].decode()  # once: it is asked for in a loop
    for state in ("asleep", "starting", "ready", "backing_off", "crash_loop", "stopping"):
        if sample(said, "gateway_engine_state", gateway_replica=replica, gateway_state=state):
            return state
    return ""


def wait_status(gateway: GatewayProcess, replica: str, state: str, timeout: float = 20) -> None:
    wait_until(lambda: status(gateway, replica) == state, timeout, f"{replica} is not {state}")

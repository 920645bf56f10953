from __future__ import annotations

import json

import msgspec
import pytest

from backends.base import Footprint
from gateway.__main__ import main
from gateway.cli import plan
from gateway.cli.plan import BackendPlan, Plan, told

MEBI = 1 << 20


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    monkeypatch.setenv("ENGINE_TOKEN", "hunter2-hunter2")
    (tmp_path / "a.gguf").write_bytes(b"x" * MEBI)
    path = tmp_path / "routing.yaml"
    path.write_text(
        """
memory_limit: 12GiB
backends:
  small:
    use: llama_server
    replicas: 2
    launch:
      model: a.gguf
      args: [--ctx-size, "4096", --hf-token, "${ENGINE_TOKEN}"]
      env: {TOKEN: "${ENGINE_TOKEN}"}
      idle_unload: 10m
  gpu: {use: vllm, launch: {model: org/name, memory: 10GiB, preload: false}}
  hosted: {use: openai, replicas: [https://api.example.com/v1]}
models:
  m: {backend: small}
"""
    )
    return path


def test_what_would_run(file, capsys):
    assert main(["plan", str(file)]) == 0
    said = capsys.readouterr().out
    assert "hunter2" not in said
    assert (
        f"small (llama_server), started by the gateway\n  runs    llama-server --host SOCKET "
        f"--model {file.parent}/a.gguf --alias small" in said
    )
    assert "--hf-token '***'" in said
    assert "TOKEN=***" in said
    assert "  small@1 logs to /state/llm-gateway/logs/small@1.log\n" in said
    assert "  starts  with the gateway, within 300 s; stops within 30 s; hangs after 60 s" in said
    assert "  sleeps  after 600 s without a request" in said
    assert "  starts  at the first request" in said
    assert "hosted (openai) at https://api.example.com/v1\n" in said
    assert "memory_limit 12.0 GiB: small 2 times 1.0 MiB, gpu 10.0 GiB; all fit" in said


def test_for_programs(file, capsys):
    assert main(["plan", "--json", str(file)]) == 0
    said = capsys.readouterr().out
    assert "hunter2" not in said
    backends = {one["name"]: one for one in json.loads(said)["backends"]}
    assert [one["replica"] for one in backends["small"]["commands"]] == ["small@0", "small@1"]
    assert backends["gpu"]["commands"][0]["argv"][:2] == ["vllm", "serve"]
    assert backends["gpu"]["memory"] == 10 << 30
    assert backends["hosted"]["addresses"] == ["https://api.example.com/v1"]


def test_a_file_with_mistakes(tmp_path, capsys):
    file = tmp_path / "routing.yaml"
    file.write_text("backends: {b: {use: vllm}}\nmodels: {m: {backend: b}}\n")
    assert main(["plan", str(file)]) == 2
    assert "backends.b.replicas: is missing" in capsys.readouterr().err


FOOTPRINT = Footprint(
    name="/models/tale",
    weights=5 * MEBI,
    kv_cache=64 * MEBI,
    overhead=10 * MEBI,
    context=4096,
    concurrency=16,
    bytes_per_token=1024,
)


def in_memory(refusal: str | None = None) -> Plan:
    other = msgspec.structs.replace(FOOTPRINT, weights=1 << 30)
    return Plan(
        backends=(
            BackendPlan(name="tale", use="mlx", addresses=("/models/tale",), footprint=FOOTPRINT),
            BackendPlan(name="other", use="mlx", addresses=("/models/other",), footprint=other),
        ),
        memory_limit=None,
        machine_memory=8 << 30,
        refusal=refusal,
    )


def test_the_table_of_memory_adds_up():
    table = told(in_memory()).splitlines()[-4:]
    assert [line.split()[0] for line in table] == ["memory", "tale", "other", "all"]
    assert "79.0 MiB  KV cache for 16 sequences of 4096 tokens, 1.0 KiB a token" in table[1]
    assert table[3].split() == ["all", "1.1", "GiB", "of", "8.0", "GiB"]


def test_what_does_not_fit_is_refused_with_the_reason(file, capsys, monkeypatch):
    monkeypatch.setattr(plan, "make_plan", lambda *_: in_memory("too much: take less"))
    assert main(["plan", str(file)]) == 1
    assert capsys.readouterr().err == "too much: take less\n"

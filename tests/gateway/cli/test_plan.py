from __future__ import annotations

import json
import os
import re
import sys

import msgspec
import numpy as np
import pytest

from backends.memory import Footprint
from gateway.__main__ import main
from gateway.cli.plan import BackendPlan, Plan, told
from tests.support.engines import GGUF, MODEL_DIR
from tests.support.gguf import write_gguf

MEBI = 1 << 20


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    monkeypatch.setenv("ENGINE_TOKEN", "hunter2-hunter2")
    for command in ("llama-server", "vllm"):
        (tmp_path / command).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    write_gguf(tmp_path / "a.gguf", {}, {"t": np.zeros(MEBI // 4, np.float32)})
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


def in_memory(adapters: int = 0, pictures: int = 0) -> Plan:
    other = msgspec.structs.replace(
        FOOTPRINT,
        weights=1 << 30,
        adapters=adapters,
        prompt_cache=3 * MEBI,
        pictures=pictures,
    )
    return Plan(
        backends=(
            BackendPlan(name="tale", use="mlx", model="/models/tale", footprint=FOOTPRINT),
            BackendPlan(name="other", use="mlx", model="/models/other", footprint=other),
        ),
        memory_limit=None,
        machine_memory=8 << 30,
        refusal=None,
    )


UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def cells(line: str) -> list[float]:
    """The sizes in a row of the table, in MiB."""
    found = re.findall(r"([\d.]+) ([KMG]?i?B)\b", line.partition("KV cache for")[0])
    return [float(number) * UNITS[unit] / MEBI for number, unit in found]


@pytest.mark.parametrize("adapters", [0, 7 * MEBI])
@pytest.mark.parametrize("pictures", [0, 20 * MEBI])
def test_the_table_of_memory_adds_up(adapters, pictures):
    head, *rows, last = told(in_memory(adapters, pictures)).splitlines()[-4:]
    columns = ["weights", "adapters", "KV cache", "prompt cache", "pictures", "margin", "total"]
    if not adapters:
        columns.remove("adapters")
    if not pictures:
        columns.remove("pictures")
    assert re.split(r"  +", head.strip()) == ["memory", *columns]
    assert "KV cache for 16 sequences of 4096 tokens, 1.0 KiB a token" in rows[0]
    totals = []
    for row in rows:
        *parts, total = cells(row)
        assert len(parts) == len(columns) - 1
        assert sum(parts) == pytest.approx(total, rel=0.05)
        totals.append(total)
    assert totals[1] > 1024 + (adapters + pictures) / MEBI
    assert last.split()[:1] + last.split()[-3:] == ["all", "of", "8.0", "GiB"]
    assert cells(last)[0] == pytest.approx(sum(totals), rel=0.05)


def plan_of(tmp_path, capsys, *entries: str, code: int = 0) -> tuple[str, str]:
    """What `gateway plan` says of these backends, on both outputs."""
    path = tmp_path / "routing.yaml"
    path.write_text("\n".join(["backends:", *entries, "models: {m: {backend: b}}"]))
    assert main(["plan", str(path)]) == code
    said = capsys.readouterr()
    return said.out, said.err


def test_what_is_loaded_into_this_process(tmp_path, capsys):
    out, _ = plan_of(
        tmp_path,
        capsys,
        f"  b: {{use: mlx, model: {MODEL_DIR}, context: 512}}",
        "  h: {use: mlx, model: org/some-model}",
    )
    assert f"b (mlx) in this process: {MODEL_DIR}\n" in out
    assert "h (mlx) in this process: org/some-model\n" in out


def test_what_runs_in_a_process_of_its_own(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    out, _ = plan_of(
        tmp_path,
        capsys,
        f"  b: {{use: mlx, model: {MODEL_DIR}, isolation: process, stall_timeout: 20s}}",
    )
    assert f"b (mlx), in a process of its own: {MODEL_DIR}\n" in out
    assert f"  runs    {sys.executable} -m backends.isolation.child " in out
    assert " SOCKET " in out
    assert "  b@0 logs to /state/llm-gateway/logs/b@0.log\n" in out
    assert "hangs after 20 s without a token; started again when it dies or hangs\n" in out
    assert re.search(r"^b +[\d.]+ MiB .* sequences of ", out, re.MULTILINE), "in the table too"


def test_what_is_isolated_counts_against_the_limit_as_planned(tmp_path, capsys):
    out, _ = plan_of(
        tmp_path,
        capsys,
        f"  b: {{use: mlx, model: {MODEL_DIR}, isolation: process}}",
        "memory_limit: 1MiB",
    )
    *_, total = re.findall(r"[\d.]+ [KMG]iB", out.splitlines()[-2].partition("KV cache for")[0])
    assert f"memory_limit 1.0 MiB: b {total}; they take turns" in out


def test_what_does_not_fit_is_refused_with_the_reason(tmp_path, capsys):
    out, err = plan_of(
        tmp_path, capsys, f"  b: {{use: mlx, model: {MODEL_DIR}, kv_cache: 900GiB}}", code=1
    )
    assert "b (mlx) in this process" in out
    assert "900.0 GiB KV cache" in err
    assert "Lower `kv_cache` or `prompt_cache` of b: " in err


def test_a_cache_that_is_smaller_than_the_batch_says_for_how_many_it_is(tmp_path, capsys):
    entry = f"  b: {{use: mlx, model: {MODEL_DIR}, context: 512, kv_cache: 16MiB}}"
    out, _ = plan_of(tmp_path, capsys, entry)
    assert re.search(r"KV cache for \d of 16 sequences of 512 tokens", out)


def test_what_would_not_start_is_said_of_each(tmp_path, capsys):
    (tmp_path / "half.gguf").write_bytes(GGUF.read_bytes()[:-1])
    strange = tmp_path / "strange"
    strange.mkdir()
    for file in (MODEL_DIR / "model.safetensors", MODEL_DIR / "tokenizer.json"):
        (strange / file.name).symlink_to(file)
    (strange / "config.json").write_text('{"model_type": "nobodys", "hidden_size": 8}')
    (tmp_path / "bare").mkdir()
    out, err = plan_of(
        tmp_path,
        capsys,
        "  b: {use: llama_cpp, model: half.gguf}",
        "  s: {use: llama_server, launch: {model: half.gguf, command: ./no-such-command}}",
        "  bare: {use: mlx, model: bare}",
        "  strange: {use: mlx, model: strange}",
        f"  fine: {{use: mlx, model: {MODEL_DIR}}}",
        code=1,
    )
    assert "fine (mlx) in this process" in out
    said = err.splitlines()
    assert [re.search(r"backends\.(\w+): ", line)[1] for line in said] == [  # type: ignore[index]
        *("b", "s", "s", "bare", "strange"),
    ]
    assert "half.gguf cannot be read as a GGUF file: it was cut off" in said[0]
    assert "no-such-command is no executable" in said[2]
    assert "is no MLX model: it has no config.json" in said[3]
    assert "mlx-lm does not know its model_type, 'nobodys'" in said[4]


def test_what_is_started_is_weighed_against_the_machine(tmp_path, capsys, monkeypatch):
    (tmp_path / "vllm").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    launch = "{model: org/name, memory: 1000GiB}"
    out, err = plan_of(tmp_path, capsys, f"  b: {{use: vllm, launch: {launch}}}")
    assert "b (vllm), started by the gateway" in out
    assert "warning: engines that the gateway starts hold 1000.0 GiB at once, and this" in err
    path = tmp_path / "routing.yaml"
    path.write_text("memory_limit: 1024GiB\n" + path.read_text().replace("1000GiB", "1MiB"))
    assert main(["plan", str(path)]) == 0
    assert "warning: `memory_limit` is 1.0 TiB, and this machine has" in capsys.readouterr().err

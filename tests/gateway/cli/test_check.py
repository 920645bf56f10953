from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from backends.options.health import OutlierDetection
from gateway.cli import check
from gateway.config.structs import Model

FILE = """
backends:
  qwen: {use: vllm, replicas: [http://10.0.0.1:8000, http://10.0.0.2:8000], api_key: ${KEY}}
  small: {use: llama_server, replicas: [http://127.0.0.1:8080]}
models:
  assistant:
    aliases: [gpt-4o-mini]
    variants:
      stable: {backend: qwen, weight: 190}
      canary: {backend: small, weight: 10}
    fallback: [tiny]
  tiny: {backend: small}
keys:
  alice: {value: ${KEY}}
"""


def gateway(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="gateway")
    check.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["check", *arguments])
    code = args.run(args)
    assert isinstance(code, int)
    return code


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KEY", "sk-secret-1234")
    path = tmp_path / "routing.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_mistakes_go_to_standard_error_with_exit_code_2(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(FILE.replace("backend: qwen", "backend: qwn").replace("fallback", "falback"))
    assert gateway() == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "routing.yaml:9: models.assistant.variants.stable.backend: "
        'no backend is called "qwn"; did you mean "qwen"?',
        'routing.yaml:11: models.assistant.falback: unknown key; did you mean "fallback"?',
    ]


def test_a_missing_file_is_a_mistake(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gateway("none.yaml") == 2
    assert capsys.readouterr().err == "none.yaml: no such file\n"


def test_a_good_file_shows_where_requests_go(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gateway(str(file)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        f"{file} is fine: 2 models, 2 backends, 1 key; http://127.0.0.1:8088",
        "",
        "  assistant  stable   95%   qwen   vllm http://10.0.0.1:8000 http://10.0.0.2:8000",
        "             canary   5%    small  llama_server http://127.0.0.1:8080",
        "    also gpt-4o-mini",
        "    falls back to tiny",
        "  tiny       default  100%  small  llama_server http://127.0.0.1:8080",
    ]
    assert "sk-secret" not in out


def test_a_gateway_without_keys_is_said_to_be_open(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(FILE.split("keys:", maxsplit=1)[0] + "server: {host: '::1', port: 1}\n")
    assert gateway() == 0
    assert "no keys; http://[::1]:1, open to all who reach it" in capsys.readouterr().out


def test_a_model_is_shown_with_the_adapters_it_can_be_asked_for_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "routing.yaml"
    path.write_text(
        "backends: {gpu: {use: vllm, replicas: [http://h], adapters: {v1: /m/1, v2: /m/2}}}\n"
        "models: {base: {backend: gpu, aliases: [b]}}\n"
    )
    assert gateway(str(path)) == 0
    assert "  also b, base:v1, base:v2\n" in capsys.readouterr().out


def test_a_replica_that_takes_more_than_the_others_is_shown_so(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weighted = '{url: "http://10.0.0.2:8000", weight: 2.5}'
    file.write_text(FILE.replace("http://10.0.0.2:8000", weighted))
    assert gateway() == 0
    assert "vllm http://10.0.0.1:8000 http://10.0.0.2:8000 (2.5 times)" in capsys.readouterr().out


TUNED = """
backends:
  qwen:
    use: vllm
    replicas: [http://10.0.0.1:8000, http://10.0.0.2:8000]
    slow_start: {}
    outlier_detection: {consecutive_failures: 5}
  small: {use: llama_server, replicas: [http://127.0.0.1:8080]}
models:
  assistant:
    variants:
      stable: {backend: qwen, weight: 95, checkpoint: q8}
      canary: {backend: small, weight: 5}
    rules: [{when: {headers: {x-canary: "1"}}, variant: canary}]
    balance: session
    concurrency: 32
    budget: {ttft: 500ms}
    hedge: {}
    timeouts: {first_token: 5m}
    fallback: {overloaded: [tiny]}
  tiny: {backend: small}
retry_budget: {percent: 30}
"""


def test_what_is_in_force_beside_the_defaults_is_shown(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(TUNED)
    assert gateway() == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "  assistant  stable   95%   qwen   vllm http://10.0.0.1:8000 http://10.0.0.2:8000, "
        "checkpoint q8",
        "             canary   5%    small  llama_server http://127.0.0.1:8080",
        "    1 rule before the weights",
        "    where overloaded, falls back to tiny",
        "    balance: session, budget: {ttft: 500ms}, concurrency: 32,",
        "    hedge: {after: p95, max_percent: 5}, timeouts: {first_token: 5m},",
        "    queue: {size: 256, timeout: 30s}",
        "  tiny       default  100%  small  llama_server http://127.0.0.1:8080",
        "",
        "  backend qwen",
        "    slow_start: {window: 30s, aggression: 1, min_weight_percent: 10},",
        "    outlier_detection: {consecutive_failures: 5}",
        "",
        "  retry_budget",
        "    percent: 30",
    ]


def test_the_defaults_are_shown_where_they_are_asked_for(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(TUNED)
    assert gateway("--all") == 0
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("  tiny       default  100%  small  llama_server http://127.0.0.1:8080") + 1
    assert lines[start : start + 5] == [
        "    default: sticky: conversation, balance: prefix_affinity,",
        "      retry: {attempts: 3, backoff: 25ms, max_backoff: 2s}, failover: {attempts: 3},",
        "      budget: none, concurrency: none, hedge: none,",
        "      timeouts: {connect: 2s, first_token: 60s, idle: 60s, total: 10m}, public: true",
        "",
    ]
    at = lines.index("  backend qwen")
    assert "    default: health: {token_interval: 60s, token_timeout: 10s}," in lines[at:]
    assert lines[-1] == "    default: min_per_second: 10, window: 10s"
    assert max(map(len, lines[2:])) < 100
    everything = " ".join(" ".join(lines).split())
    for key in (*Model.__struct_fields__, *OutlierDetection.__struct_fields__):
        assert f"{key}: " in everything or key in IN_ROWS


IN_ROWS = {"backend", "model", "adapter", "checkpoint", "variants", "aliases", "rules", "fallback"}
"""Keys that the lines of the variants tell of, and those after them."""


def test_replicas_that_nobody_tells_of_yet_are_a_warning(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(FILE.replace("replicas: [http://127.0.0.1:8080]", "discover: {file: no.yaml}"))
    assert gateway() == 0
    out, err = capsys.readouterr()
    assert "is fine" in out
    missing = file.parent / "no.yaml"
    assert err == (
        f"warning: routing.yaml:4: backends.small.discover.file: {missing} cannot be read now: "
        "No such file or directory; until it can, the backend has no replicas, and its models are "
        "answered with 503\n"
    )
    missing.write_text("[]")
    assert gateway() == 0
    assert not capsys.readouterr().err

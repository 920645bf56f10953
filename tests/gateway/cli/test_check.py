from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from gateway.cli import check

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

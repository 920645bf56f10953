from __future__ import annotations

import argparse
import socket
from pathlib import Path

import pytest

from gateway.cli import serve

FILE = "backends: {b: {use: openai, replicas: [http://h:1]}}\nmodels: {m: {backend: b}}\n"


def gateway(*arguments: object) -> int:
    parser = argparse.ArgumentParser(prog="gateway")
    serve.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["serve", *map(str, arguments)])
    code = args.run(args)
    assert isinstance(code, int)
    return code


def test_a_file_with_mistakes_is_not_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "routing.yaml"
    file.write_text(FILE.replace("backend: b", "backend: c"), encoding="utf-8")
    assert gateway(file) == 2
    assert 'no backend is called "c"' in capsys.readouterr().err


def test_host_cannot_open_a_gateway_without_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "routing.yaml"
    file.write_text(FILE, encoding="utf-8")
    assert gateway(file, "--host", "0.0.0.0", "--port", "0") == 2
    assert "--host 0.0.0.0 can be reached from other machines" in capsys.readouterr().err


def test_an_address_of_another_machine_cannot_be_listened_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "routing.yaml"
    file.write_text(f"server: {{insecure: true}}\n{FILE}", encoding="utf-8")
    assert gateway(file, "--host", "192.0.2.1", "--port", "0") == 1
    assert "cannot listen on 192.0.2.1:0" in capsys.readouterr().err


def test_without_a_file_here_the_one_that_ships_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        # It has been read, checked, and found its model, or it would not come to the port.
        assert gateway("--port", port) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err

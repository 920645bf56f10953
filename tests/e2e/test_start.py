"""`gateway serve` that cannot: a clear line on standard error, an exit code, no traceback."""

from __future__ import annotations

import socket

import pytest

from tests.support.engines import HOST, MODEL_DIR


def mlx(model: str) -> str:
    return (
        f"backends: {{tale: {{use: mlx, model: {model}}}}}\nmodels: {{tale: {{backend: tale}}}}\n"
    )


def fails(gateway, exit_code: int) -> str:
    """What it says when it ends, which it must with `exit_code`."""
    assert gateway.child.wait(30) == exit_code
    said = gateway.child.log()
    assert "Traceback" not in said
    assert "ready:" not in said
    return said


def test_a_model_directory_that_is_missing(start_gateway):
    said = fails(start_gateway(mlx("./no-such-model"), wait=False), 2)
    assert "no-such-model" in said
    assert "routing.yaml:1" in said


def test_a_directory_that_holds_no_model(start_gateway, tmp_path):
    (tmp_path / "empty").mkdir()
    said = fails(start_gateway(mlx(str(tmp_path / "empty")), wait=False), 1)
    assert "backend 'tale'" in said
    assert "config.json" in said


def test_a_hub_id_without_a_network(start_gateway, tmp_path):
    env = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub")}
    said = fails(start_gateway(mlx("nobody/no-such-model"), wait=False, env=env), 1)
    assert "backend 'tale'" in said
    assert "nobody/no-such-model" in said


def test_a_port_that_is_in_use(start_gateway):
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        gateway = start_gateway(mlx(str(MODEL_DIR)), wait=False, args=["--port", str(port)])
        said = fails(gateway, 1)
    assert f"{HOST}:{port}" in said
    assert "in use" in said
    assert "--port" in said


def test_a_file_that_is_missing(start_gateway):
    gateway = start_gateway(mlx(str(MODEL_DIR)), wait=False, file="elsewhere.yaml")
    assert "elsewhere.yaml" in fails(gateway, 2)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_open_gateway_refuses_to_listen_beyond_loopback(start_gateway, host):
    text = f"server: {{host: '{host}'}}\n" + mlx(str(MODEL_DIR))
    said = fails(start_gateway(text, wait=False), 2)
    assert "keys" in said
    assert "insecure" in said


def test_nor_does_a_host_on_the_command_line_open_it(start_gateway):
    gateway = start_gateway(mlx(str(MODEL_DIR)), wait=False, args=["--host", "0.0.0.0"])
    said = fails(gateway, 2)
    assert "keys" in said
    assert "insecure" in said

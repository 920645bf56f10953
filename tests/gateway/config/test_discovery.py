from __future__ import annotations

import pytest

from gateway.config import ConfigErrors, load

MODELS = "models: {m: {backend: b}}\n"


def told(tmp_path, backend):
    path = tmp_path / "routing.yaml"
    path.write_text(f"backends:\n  b: {backend}\n{MODELS}")
    try:
        return load(path, {"HOME": "/home/me"})
    except ConfigErrors as errors:
        return str(errors)


@pytest.mark.parametrize("use", ["openai", "vllm", "llama_server"])
def test_replicas_may_be_told_elsewhere(tmp_path, use):
    config = told(tmp_path, f"{{use: {use}, discover: {{dns: http://llama.internal:8080}}}}")
    assert config.backends["b"].urls == ()
    assert config.backends["b"].discover.every == 10


def test_a_file_is_seen_from_where_the_file_is(tmp_path):
    config = told(tmp_path, "{use: vllm, discover: {file: replicas.yaml}}")
    assert config.backends["b"].discover.file == str(tmp_path / "replicas.yaml")
    config = told(tmp_path, "{use: vllm, discover: {file: ~/replicas.yaml}}")
    assert config.backends["b"].discover.file == "/home/me/replicas.yaml"


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        ("{use: openai}", "b.replicas: is missing; a list of base URLs, or `discover`"),
        ("{use: vllm}", "b.replicas: is missing; a list of base URLs, or `discover`; or `launch`"),
        ("{use: vllm, discover: {}}", "discover: expected one of `dns`, `srv` and `file`, found 0"),
        (
            "{use: vllm, discover: {dns: 'http://a', file: b}}",
            "b.discover: expected one of `dns`, `srv` and `file`, found 2",
        ),
        (
            "{use: openai, replicas: [http://a], discover: {dns: 'http://a'}}",
            "b.replicas: found both `replicas` and `discover`; keep one",
        ),
        (
            "{use: vllm, launch: {model: org/name}, discover: {dns: 'http://a'}}",
            "b.discover: goes with engines that run already, not with `launch`; keep one",
        ),
        (
            "{use: vllm, discover: {file: a, nameserver: 10.0.0.1}}",
            "b.discover.nameserver: goes with `dns` or `srv`, not with `file`",
        ),
        (
            "{use: vllm, discover: {file: a, removal_grace: 2m}}",
            "b.discover.removal_grace: goes with `dns` or `srv`, not with `file`",
        ),
        ("{use: vllm, discover: {dns: 'https://a'}}", "b.discover.dns: expected a URL with a host"),
        ("{use: vllm, discover: {file: \"a\\0\"}}", "b.discover.file: holds a NUL character"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_told(tmp_path, backend, said):
    assert said in told(tmp_path, backend)


def test_a_library_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.config.discovery.find_spec", lambda _: None)
    said = told(tmp_path, "{use: vllm, discover: {srv: 'http://_llama._tcp.internal'}}")
    assert "b.discover: needs dnspython; pip install 'llm-gateway[srv]'" in said

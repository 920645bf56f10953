from __future__ import annotations

import pytest

from backends.options import LlamaServerOptions, VllmOptions
from gateway.config import ConfigErrors, load


def write(folder, backend, top=""):
    file = folder / "routing.yaml"
    file.write_text(f"{top}\nbackends: {{b: {backend}}}\nmodels: {{m: {{backend: b}}}}\n")
    return file


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.gguf").write_bytes(b"GGUF")
    (tmp_path / "models" / "hf").mkdir()
    return tmp_path


def launched(folder, backend, env=None, top=""):
    options = load(write(folder, backend, top), env or {}).backends["b"]
    assert isinstance(options, LlamaServerOptions | VllmOptions)
    assert options.launch is not None
    return options, options.launch


def problem(folder, backend, top=""):
    with pytest.raises(ConfigErrors) as caught:
        load(write(folder, backend, top), {"HOME": "/nobody"})
    (only,) = caught.value.problems
    return str(only).partition("routing.yaml:")[2].replace(str(folder), "HERE")


def test_paths_are_seen_from_the_file_and_the_model_gets_the_backends_name(folder):
    options, launch = launched(
        folder, "{use: llama_server, launch: {model: models/a.gguf, command: ./bin/server}}"
    )
    assert launch.model == str(folder / "models" / "a.gguf")
    assert launch.command == str(folder / "bin" / "server")
    assert (options.model, options.count) == ("b", 1)


def test_a_command_without_a_slash_is_looked_for_on_path(folder):
    _, launch = launched(folder, "{use: vllm, launch: {model: models/hf, command: vllm-cpu}}")
    assert (launch.model, launch.command) == (str(folder / "models" / "hf"), "vllm-cpu")


@pytest.mark.parametrize("model", ["org/name", "org/name:Q4_K_M"])
def test_a_hub_id_stays_one(folder, model):
    options, launch = launched(
        folder, f"{{use: llama_server, model: tale, replicas: 2, launch: {{model: '{model}'}}}}"
    )
    assert (launch.model, options.model, options.count) == (model, "tale", 2)


def test_a_home_directory(folder):
    _, launch = launched(
        folder,
        "{use: llama_server, launch: {model: ~/models/a.gguf, command: ~/bin/x}}",
        {"HOME": str(folder)},
    )
    assert launch.model == str(folder / "models" / "a.gguf")
    assert launch.command == str(folder / "bin" / "x")


def test_secrets_are_for_the_engine_only(folder):
    _, launch = launched(
        folder,
        "{use: vllm, launch: {model: org/m, env: {HF_TOKEN: '${TOKEN}', OMP_NUM_THREADS: 4}}}",
        {"TOKEN": "hunter2"},
    )
    assert launch.env["HF_TOKEN"].reveal() == "hunter2"
    assert launch.env["OMP_NUM_THREADS"].reveal() == "4"
    assert "hunter2" not in repr(launch)


MISTAKES = {
    "no model": (
        "{use: vllm, launch: {}}",
        "2: backends.b.launch.model: is missing",
    ),
    "a model that is not there": (
        "{use: llama_server, launch: {model: models/b.gguf}}",
        '2: backends.b.launch.model: there is no path HERE/models/b.gguf; did you mean "a.gguf"?',
    ),
    "a directory for llama-server": (
        "{use: llama_server, launch: {model: models}}",
        "2: backends.b.launch.model: llama-server takes a GGUF file, and HERE/models is a "
        "directory; in it is a.gguf",
    ),
    "neither a path nor a hub id": (
        "{use: vllm, launch: {model: nothing}}",
        '2: backends.b.launch.model: "nothing" is neither a path beside this file nor a hub id '
        "such as org/name",
    ),
    "URLs": (
        "{use: vllm, replicas: [http://h:1], launch: {model: org/name}}",
        "2: backends.b.replicas: expected a number, found URLs; with `launch`, say how many to "
        "start: replicas: 2",
    ),
    "a number without launch": (
        "{use: vllm, replicas: 2}",
        "2: backends.b.replicas: expected a list of URLs, found a number; a list of base URLs, "
        "or `discover`; or `launch`, to have the gateway start it",
    ),
    "no replicas": (
        "{use: vllm}",
        "2: backends.b.replicas: is missing; a list of base URLs, or `discover`; or `launch`, to "
        "have the gateway start it",
    ),
    "none": (
        "{use: vllm, replicas: 0, launch: {model: org/name}}",
        "2: backends.b.replicas: expected a whole number from 1 to 64, found 0",
    ),
    "a URL without brackets": (
        "{use: vllm, replicas: http://h:1}",
        '2: backends.b.replicas: expected a list, found "http://h:1"; write [http://h:1]',
    ),
    "a key": (
        "{use: vllm, api_key: x1234567, launch: {model: org/name}}",
        "2: backends.b.api_key: goes with URLs, not with `launch`; leave it out: nobody but the "
        "gateway reaches an engine that it has started",
    ),
    "an argument that is not theirs": (
        "{use: vllm, launch: {model: org/name, args: [--x, --port=1]}}",
        "2: backends.b.launch.args[1]: --port is not yours to set; the gateway sets where it "
        "listens, what it loads and what it is called",
    ),
    "the name of a variable": (
        "{use: vllm, launch: {model: org/name, env: {1X: a}}}",
        '2: backends.b.launch.env.1X: expected the name of an environment variable, found "1X"',
    ),
    "openai": (
        "{use: openai, replicas: [http://h:1], launch: {model: org/name}}",
        "2: backends.b.launch: unknown key",
    ),
}


@pytest.mark.parametrize(("backend", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(folder, backend, message):
    assert problem(folder, backend).startswith(message)


def test_what_could_never_be_started(folder):
    backend = "{use: vllm, launch: {model: org/name, memory: 3GiB}}"
    assert problem(folder, backend, "memory_limit: 2GiB").startswith(
        "2: backends.b.launch.memory: 3GiB is more than `memory_limit`, 2GiB; it could never be "
        "started"
    )


def test_the_number_of_replicas_may_come_from_the_environment(folder):
    options, _ = launched(
        folder, "{use: vllm, replicas: '${N}', launch: {model: org/name}}", {"N": "3"}
    )
    assert options.count == 3

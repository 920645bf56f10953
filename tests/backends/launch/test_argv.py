from __future__ import annotations

from typing import Any

import pytest

from backends.launch.argv import command_line, environment, masked, owned_arguments, secrets_of
from backends.options import Launch, LlamaServerOptions, VllmOptions
from backends.secret import Secret


def llama(*args: str, model: str = "/models/a.gguf", **more: Any) -> LlamaServerOptions:
    launch = Launch(model=model, args=args, **more)
    return LlamaServerOptions(model="tale", launch=launch)


def vllm(*args: str, model: str = "/models/a", **more: Any) -> VllmOptions:
    return VllmOptions(model="tale", launch=Launch(model=model, args=args, **more))


def test_llama_server():
    assert command_line(llama("--ctx-size", "4096"), "/run/0.sock") == (
        *("llama-server", "--host", "/run/0.sock", "--model", "/models/a.gguf"),
        *("--alias", "tale", "--jinja", "--metrics", "--threads-http", "256"),
        *("--ctx-size", "4096"),
    )


def test_llama_server_from_the_hub():
    argv = command_line(llama(model="org/name:Q4_K_M"), "s")
    assert argv[3:5] == ("--hf-repo", "org/name:Q4_K_M")
    assert "LLAMA_ARG_OFFLINE" not in environment(llama(model="org/name"), {})


def test_vllm():
    assert command_line(vllm("--dtype", "float32", command="/opt/vllm"), "/run/0.sock") == (
        *("/opt/vllm", "serve", "/models/a", "--uds", "/run/0.sock"),
        *("--served-model-name", "tale", "--disable-uvicorn-access-log"),
        *("--dtype", "float32"),
    )


def test_llama_server_that_embeds_has_one_cache_for_all_slots():
    assert "--kv-unified" in command_line(llama("--embeddings"), "s")
    assert "--kv-unified" not in command_line(llama("--embeddings", "--no-kv-unified"), "s")
    assert "--kv-unified" not in command_line(llama(), "s")


@pytest.mark.parametrize("given", [("--threads-http", "8"), ("--threads-http=8",)])
def test_the_users_arguments_win(given):
    argv = command_line(llama(*given, "--no-jinja", "--metrics"), "s")
    assert "256" not in argv
    assert "--jinja" not in argv
    assert argv.count("--metrics") == 1


@pytest.mark.parametrize(
    ("options", "owned"),
    [
        (llama("--jinja", "--host", "0.0.0.0", "--port=1"), [(1, "--host"), (3, "--port")]),
        (llama("-m", "x"), [(0, "-m")]),
        (llama("--api_key", "x"), [(0, "--api_key")]),
        (vllm("--uds=/x", "--served_model_name", "x"), [(0, "--uds"), (1, "--served_model_name")]),
        (vllm("--max-model-len", "10"), []),
    ],
)
def test_where_it_listens_and_what_it_is_called_is_not_the_users_to_set(options, owned):
    assert owned_arguments(options) == owned


def test_the_environment_is_inherited_but_for_what_would_mislead_the_engine():
    options = llama(env={"OMP_NUM_THREADS": Secret("4"), "LLAMA_ARG_UI": Secret("1")})
    inherited = {"PATH": "/bin", "LLAMA_ARG_PORT": "1", "LLAMA_API_KEY": "k", "VLLM_API_KEY": "k"}
    assert environment(options, inherited) == {
        "PATH": "/bin",
        "OMP_NUM_THREADS": "4",
        "LLAMA_ARG_UI": "1",
        "LLAMA_ARG_OFFLINE": "1",
        "LLAMA_ARG_SSE_PING_INTERVAL": "1",
    }
    assert environment(vllm(), {"KEY": "secret", "A": "b"}, {"KEY"}).keys() == {
        "A",
        "HF_HUB_OFFLINE",
    }
    assert environment(vllm(), {"HF_HUB_OFFLINE": "0"})["HF_HUB_OFFLINE"] == "0"


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (("--hf-token", "abc", "--x"), ("--hf-token", "***", "--x")),
        (("--hf-token=abc",), ("--hf-token=***",)),
        (("--api-key", "a", "b"), ("--api-key", "***", "b")),
        (("--max-num-batched-tokens", "10"), ("--max-num-batched-tokens", "10")),
        (("--tokenizer", "x"), ("--tokenizer", "x")),
        (("--ssl-key-file", "x"), ("--ssl-key-file", "x")),
        (("--hf-token", "--abc", "--x"), ("--hf-token", "***", "--x")),
        (("-hft", "abc", "-c", "1"), ("-hft", "***", "-c", "1")),
        (("-hft=abc",), ("-hft=***",)),
    ],
)
def test_values_of_flags_that_are_named_like_secrets_are_masked(argv, shown):
    assert masked(argv) == shown


def test_what_must_not_stand_in_a_log():
    options = llama(
        *("--hf-token", "token-in-args", "--other-token=token-with-equals"),
        env={"A": Secret("short"), "B": Secret("long-enough-to-be-one")},
    )
    assert set(secrets_of(options)) == {
        "token-in-args",
        "token-with-equals",
        "long-enough-to-be-one",
    }


def test_adapters_are_there_from_the_start_of_llama_server():
    argv = command_line(
        LlamaServerOptions(launch=Launch(model="/m.gguf"), adapters={"a": "/a.gguf"}), "s"
    )
    assert argv[-4:] == ("--lora-scaled", "/a.gguf:0", "--cache-ram", "0")


def test_vllm_is_started_so_that_it_can_load_adapters():
    allowed = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
    options = VllmOptions(launch=Launch(model="/m"), adapters={"a": "/a"})
    assert "--enable-lora" in command_line(options, "s")
    assert environment(options, {})[allowed] == "1"
    assert "--enable-lora" not in command_line(vllm(), "s")
    assert allowed not in environment(vllm(), {})

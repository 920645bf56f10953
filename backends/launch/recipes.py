"""How each kind of engine is run: its executable, its arguments, its environment.

Pure, but that it looks of what rank vLLM's adapters are. What a build may not know is said by
environment variable, which it overlooks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from backends import vllm_lora
from backends.llama_server import lora
from backends.options import LaunchableOptions


class Recipe(msgspec.Struct, frozen=True):
    """How one kind of engine is run."""

    command: str
    """The name of its executable."""
    owned: frozenset[str]
    """Flags that only the gateway sets."""
    arguments: Callable[[LaunchableOptions, str, str], tuple[str, ...]]
    """What precedes the user's arguments: of the options, the engine's name for the model, and the
    path of the Unix socket to listen on."""
    environment: Callable[[LaunchableOptions], Mapping[str, str]]
    """Variables to set unless they are set."""


def is_path(model: str) -> bool:
    """Whether a resolved `launch.model` is a place on this machine rather than on the hub."""
    return model.startswith("/")


def _unless(given: Iterable[str], *flags: str) -> bool:
    """Whether none of `flags` is among the user's arguments."""
    return not any(one.partition("=")[0] in flags for one in given)


def _llama_server(options: LaunchableOptions, name: str, socket: str) -> tuple[str, ...]:
    assert options.launch is not None
    model, given = options.launch.model, options.launch.args
    argv = ["--host", socket, "--model" if is_path(model) else "--hf-repo", model, "--alias", name]
    if _unless(given, "--jinja", "--no-jinja"):
        argv.append("--jinja")
    if _unless(given, "--metrics"):
        argv.append("--metrics")
    if _unless(given, "--threads-http"):
        # A thread a connection: with fewer, streams block health checks and hide who has left.
        argv += ["--threads-http", "256"]
    embeds = not _unless(given, "--embeddings", "--embedding")
    if embeds and _unless(given, "--kv-unified", "-kvu", "--no-kv-unified", "-no-kvu"):
        argv.append("--kv-unified")  # with a cache for each slot it mixes up what it pools
    return (*argv, *lora.arguments(options.loras, given))


def _vllm(options: LaunchableOptions, name: str, socket: str) -> tuple[str, ...]:
    assert options.launch is not None
    argv = ["serve", options.launch.model, "--uds", socket, "--served-model-name", name]
    if _unless(options.launch.args, "--disable-uvicorn-access-log"):
        argv.append("--disable-uvicorn-access-log")  # it would be health checks, mostly
    return (*argv, *vllm_lora.arguments(options.loras, options.launch.args))


def _llama_environment(options: LaunchableOptions) -> Mapping[str, str]:
    offline = {"LLAMA_ARG_OFFLINE": "1"} if _is_local(options) else {}
    # A stream that nobody reads is noticed at its next ping.
    return {"LLAMA_ARG_UI": "0", "LLAMA_ARG_SSE_PING_INTERVAL": "1", **offline}


def _vllm_environment(options: LaunchableOptions) -> Mapping[str, str]:
    known = {"HF_HUB_OFFLINE": "1"} if _is_local(options) else {}
    if options.loras:
        known["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    return known


def _is_local(options: LaunchableOptions) -> bool:
    return options.launch is not None and is_path(options.launch.model)


LLAMA_SERVER = Recipe(
    command="llama-server",
    owned=frozenset(
        {
            *("--host", "--port", "--reuse-port", "--api-prefix"),
            *("-m", "--model", "-mu", "--model-url", "-hf", "-hfr", "--hf-repo", "--models-dir"),
            *("-a", "--alias", "--api-key", "--api-key-file"),
            *("--ssl-key-file", "--ssl-cert-file"),
        }
    ),
    arguments=_llama_server,
    environment=_llama_environment,
)
VLLM = Recipe(
    command="vllm",
    owned=frozenset(
        {
            *("--host", "--port", "--uds", "--root-path", "--config", "--headless"),
            *("--model", "--served-model-name", "--api-key"),
            *("--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs"),
        }
    ),
    arguments=_vllm,
    environment=_vllm_environment,
)

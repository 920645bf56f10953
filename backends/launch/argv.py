"""What is run for an engine that the gateway starts: argv and environment.

Pure, but that it looks of what rank vLLM's adapters are.

Rules of this file:

- The user's arguments win: what the gateway would add is left out where they are there.
- Where and under what name an engine listens belongs to the gateway: those are refused.
- What an older build may not know is said by environment variable, which it overlooks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from backends import vllm_lora
from backends.isolation.options import IsolatedOptions, write_options
from backends.llama_server import lora
from backends.options import LaunchableOptions, LlamaServerOptions

_SECRET = re.compile(r"key|token|secret|password|passwd", re.IGNORECASE)
_SHORT_SECRETS = frozenset({"-hft"})
"""Flags that are short for one that is named like a secret."""
_NO_SECRET = re.compile(r"file|path|tokenizer|tokens|token-budget", re.IGNORECASE)
MASK = "***"

_NEVER_INHERITED = ("LLAMA_API_KEY", "LLAMA_ARG_HOST", "LLAMA_ARG_PORT", "VLLM_API_KEY")
"""They would have the engine listen elsewhere, or ask the gateway for a key it does not send."""


class Recipe(msgspec.Struct, frozen=True):
    """How one kind of engine is run."""

    command: str
    """The name of its executable."""
    owned: frozenset[str]
    """Flags that only the gateway sets."""
    arguments: Callable[[LaunchableOptions, str, str], tuple[str, ...]]
    """What precedes the user's arguments: of the options, the engine's name for the model, and the
    path of the Unix socket to listen on."""
    environment: Callable[[bool], Mapping[str, str]]
    """Variables to set unless they are set; given whether the model is a local path."""


def command_line(options: LaunchableOptions, socket: str) -> tuple[str, ...]:
    """The whole argv to listen on the Unix socket at `socket`. `options.launch` is given."""
    launch, recipe = options.launch, recipe_of(options)
    assert launch is not None
    name = options.model or launch.model
    command = launch.command or recipe.command
    return (command, *recipe.arguments(options, name, socket), *launch.args)


def environment(options: LaunchableOptions, inherited: Mapping[str, str]) -> dict[str, str]:
    """All variables of the engine's process: `inherited`, the gateway's own, the user's."""
    launch = options.launch
    assert launch is not None
    kept = {name: value for name, value in inherited.items() if name not in _NEVER_INHERITED}
    known = recipe_of(options).environment(is_path(launch.model))
    own = {name: value.reveal() for name, value in launch.env.items()}
    if options.loras and not isinstance(options, LlamaServerOptions):
        own.setdefault("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "1")
    return {**known, **kept, **own}


def is_path(model: str) -> bool:
    """Whether a resolved `launch.model` is a place on this machine rather than on the hub."""
    return model.startswith("/")


def owned_arguments(options: LaunchableOptions) -> list[tuple[int, str]]:
    """Those of the user's arguments that are not theirs to set: position and flag."""
    assert options.launch is not None
    owned = recipe_of(options).owned
    flags = ((at, argument.partition("=")[0]) for at, argument in enumerate(options.launch.args))
    return [(at, flag) for at, flag in flags if flag.replace("_", "-") in owned]


def masked(argv: Sequence[str]) -> tuple[str, ...]:
    """`argv` as it may be shown: without the values of flags that are named like secrets.

    Whether such a flag has a value is not known: what follows it is taken for one.
    """
    shown, hide = [], False
    for argument in argv:
        flag, equals, _ = argument.partition("=")
        secret = flag.startswith("-") and _names_a_secret(flag)
        if hide:
            shown.append(MASK)
        else:
            shown.append(f"{flag}={MASK}" if secret and equals else argument)
        hide = secret and not equals
    return tuple(shown)


def secrets_of(options: LaunchableOptions) -> tuple[str, ...]:
    """Texts that must not stand in a log, the longest first; short ones would be found anywhere."""
    assert options.launch is not None
    args = options.launch.args
    hidden = [
        one.rpartition("=")[2]
        for one, shown in zip(args, masked(args), strict=True)
        if one != shown
    ]
    every = {value.reveal() for value in options.launch.env.values()}.union(hidden)
    return tuple(sorted((one for one in every if len(one) >= 8), key=len, reverse=True))


def recipe_of(options: LaunchableOptions) -> Recipe:
    """How the engine of `options` is run."""
    if isinstance(options, IsolatedOptions):
        return _ISOLATED
    return _LLAMA_SERVER if isinstance(options, LlamaServerOptions) else _VLLM


def _names_a_secret(flag: str) -> bool:
    named = _SECRET.search(flag) and not _NO_SECRET.search(flag)
    return bool(named) or flag in _SHORT_SECRETS


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


def _llama_environment(local: bool) -> Mapping[str, str]:
    offline = {"LLAMA_ARG_OFFLINE": "1"} if local else {}
    # A stream that nobody reads is noticed at its next ping.
    return {"LLAMA_ARG_UI": "0", "LLAMA_ARG_SSE_PING_INTERVAL": "1", **offline}


def _vllm_environment(local: bool) -> Mapping[str, str]:
    return {"HF_HUB_OFFLINE": "1"} if local else {}


def _isolated(options: LaunchableOptions, name: str, socket: str) -> tuple[str, ...]:
    assert isinstance(options, IsolatedOptions)
    return ("-m", "backends.isolation.child", name, socket, write_options(options.inner))


_ISOLATED = Recipe(
    command="python",
    owned=frozenset(),
    arguments=_isolated,
    environment=lambda _local: {},
)
_LLAMA_SERVER = Recipe(
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
_VLLM = Recipe(
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

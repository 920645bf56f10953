"""Engines that the gateway is to start: where their models and commands are, and what fits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from backends.launch.argv import owned_arguments
from backends.options import LaunchableOptions, LlamaServerOptions
from gateway.config import problems
from gateway.config.places import absolute, ggufs_in, hub_id, look
from gateway.config.problems import Report
from gateway.config.structs import Config


def resolve_launches(config: Config, base: Path, env: Mapping[str, str], report: Report) -> Config:
    """Make models and commands absolute, as seen from `base`, where the file is.

    An engine without a name for its model is given the backend's: it is told that name when it is
    started, and only answers to it. Looks at files, and reads none.
    """
    backends = {}
    for name, options in config.backends.items():
        backends[name] = options
        if not isinstance(options, LaunchableOptions) or options.launch is None:
            continue
        launch = options.launch
        try:
            model = _locate(launch.model, isinstance(options, LlamaServerOptions), base, env)
        except ValueError as error:
            report.add(("backends", name, "launch", "model"), str(error))
            continue
        command = launch.command
        if command is not None and "/" in command:
            try:
                command = str(absolute(command, base, env))
            except ValueError as error:
                report.add(("backends", name, "launch", "command"), str(error))
                continue
        launch = msgspec.structs.replace(launch, model=model, command=command)
        backends[name] = msgspec.structs.replace(
            options, launch=launch, model=options.model or name
        )
    return msgspec.structs.replace(config, backends=backends)


def check_launches(config: Config, report: Report) -> None:
    """Whether what `launch` says fits `replicas`, `memory_limit` and what is the gateway's."""
    for name, options in config.backends.items():
        if isinstance(options, LaunchableOptions):
            _replicas(("backends", name), options, report)
            _arguments(("backends", name, "launch"), options, report)
            _memory(("backends", name, "launch", "memory"), options, config, report)


def _replicas(path: problems.Path, options: LaunchableOptions, report: Report) -> None:
    replicas, launched = (*path, "replicas"), options.launch is not None
    if report.within(replicas) or report.within((*path, "launch")):
        return
    counted = isinstance(options.replicas, int)
    if launched and not counted:
        hint = "with `launch`, say how many to start: replicas: 2"
        report.add(replicas, "expected a number, found URLs", hint)
    elif launched and options.api_key is not None:
        hint = "leave it out: nobody but the gateway reaches an engine that it has started"
        report.add((*path, "api_key"), "goes with URLs, not with `launch`", hint)
    elif counted and not launched and options.discover is None:
        hint = "a list of base URLs, or `discover`; or `launch`, to have the gateway start it"
        found = "expected a list of URLs, found a number"
        report.add(replicas, found if report.written(replicas) else "is missing", hint)


def _arguments(path: problems.Path, options: LaunchableOptions, report: Report) -> None:
    if options.launch is None:
        return
    args = (*path, "args")
    positions = dict(enumerate(at for at, _ in report.numbered(args, options.launch.args)))
    for at, flag in owned_arguments(options):
        hint = "the gateway sets where it listens, what it loads and what it is called"
        report.add((*args, positions[at]), f"{flag} is not yours to set", hint)


def _memory(
    path: problems.Path, options: LaunchableOptions, config: Config, report: Report
) -> None:
    limit = config.memory_limit
    wanted = None if options.launch is None else options.launch.memory
    if limit is not None and wanted is not None and wanted > limit:
        found = f"{wanted.written()} is more than `memory_limit`, {limit.written()}"
        report.add(path, found, "it could never be started: raise the limit or choose less")


def _locate(model: str, wants_file: bool, base: Path, env: Mapping[str, str]) -> str:
    """The absolute path, or the hub id as it is. Raises `ValueError`."""
    place = look(model, base, env)
    if place.is_dir and wants_file:
        ggufs = [path.name for path in ggufs_in(place.path)[:3]]
        hint = f"; in it is {', '.join(ggufs)}" if ggufs else ""
        raise ValueError(f"llama-server takes a GGUF file, and {place.path} is a directory{hint}")
    if place.is_file or place.is_dir:
        return str(place.path.resolve())
    endings = (".gguf", ".safetensors")
    return hub_id(model, place.path, what="path", endings=endings, tagged=True)

"""Backends whose replicas are told elsewhere: where that is, and what does not go with it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import msgspec

from backends.options import HttpOptions, LaunchableOptions, OpenAIOptions
from gateway.config.places import absolute
from gateway.config.problems import Report
from gateway.config.structs import Config


def resolve_discovery(config: Config, base: Path, env: Mapping[str, str], report: Report) -> Config:
    """Make files absolute, as seen from `base`, where routing.yaml is. They may come later."""
    backends = {}
    for name, options in config.backends.items():
        backends[name] = options
        if not isinstance(options, HttpOptions) or options.discover is None:
            continue
        if options.discover.file is None:
            continue
        try:
            file = absolute(options.discover.file, base, env)
        except ValueError as error:
            report.add(("backends", name, "discover", "file"), str(error))
        else:
            _warn_if_missing(file, name, report)
            discover = msgspec.structs.replace(options.discover, file=str(file))
            backends[name] = msgspec.structs.replace(options, discover=discover)
    return msgspec.structs.replace(config, backends=backends)


def _warn_if_missing(file: Path, backend: str, report: Report) -> None:
    try:
        file.stat()
    except OSError as error:
        what = f"{file} cannot be read now: {error.strerror}"
        hint = "until it can, the backend has no replicas, and its models are answered with 503"
        report.warn(("backends", backend, "discover", "file"), what, hint)


def check_discovery(config: Config, report: Report) -> None:
    """Whether there are replicas, and they are told once."""
    for name, options in config.backends.items():
        if isinstance(options, HttpOptions):
            _check(name, options, report)


def _check(name: str, options: HttpOptions, report: Report) -> None:
    replicas = ("backends", name, "replicas")
    path = ("backends", name, "discover")
    if report.within(replicas) or report.within(path):
        return
    discover = options.discover
    if discover is None:
        if isinstance(options, OpenAIOptions) and not options.replicas:
            report.add(replicas, "is missing", "a list of base URLs, or `discover`")
        return
    sources = [one for one in (discover.dns, discover.srv, discover.file) if one is not None]
    if len(sources) != 1:
        report.add(path, f"expected one of `dns`, `srv` and `file`, found {len(sources)}")
    elif report.written(replicas):
        report.add(replicas, "found both `replicas` and `discover`", "keep one")
    elif isinstance(options, LaunchableOptions) and options.launch is not None:
        report.add(path, "goes with engines that run already, not with `launch`", "keep one")
    elif discover.file is not None and discover.nameserver is not None:
        report.add((*path, "nameserver"), "goes with `dns` or `srv`, not with `file`")
    elif discover.file is not None and report.written((*path, "removal_grace")):
        report.add((*path, "removal_grace"), "goes with `dns` or `srv`, not with `file`")
    elif (discover.srv or discover.nameserver) and find_spec("dns") is None:
        report.add(path, "needs dnspython", "pip install 'llm-gateway[srv]'")

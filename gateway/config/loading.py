"""From a path to a checked `Config`, or to everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from gateway.config.adapters import resolve_adapters
from gateway.config.build import INVALID, build
from gateway.config.checks import check
from gateway.config.discovery import resolve_discovery
from gateway.config.document import UnreadableError, read
from gateway.config.launches import resolve_launches
from gateway.config.model_paths import resolve_models
from gateway.config.problems import ConfigErrors, Problem, Report
from gateway.config.structs import Config


def load(
    path: Path, env: Mapping[str, str], warn: Callable[[Problem], None] | None = None
) -> Config:
    """Read, build and check the file at `path`, with the variables in `env`.

    Raises `ConfigErrors` with all problems; `warn` is called with what is odd and no mistake. Reads
    the file and looks at the places of models, adapters and lists of replicas that it names;
    nothing else is touched.
    """
    file = str(path)
    try:
        root = read(path)
    except UnreadableError as error:
        problem = Problem(file, "", error.message, error.hint, error.line, error.column)
        raise ConfigErrors([problem]) from None
    report = Report(file)
    built = build(root, Config, env, report)
    if built is not INVALID:
        base = path.parent.resolve()
        config = resolve_models(cast(Config, built), base, env, report)
        config = resolve_discovery(config, base, env, report)
        config = resolve_launches(config, base, env, report)
        config = resolve_adapters(config, base, env, report)
        check(config, report)
    report.raise_any()
    if warn is not None:
        for odd in report.warnings:
            warn(odd)
    return config

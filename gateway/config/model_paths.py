"""Where the `model` of an in-process engine is: a directory, or the id of a model on the hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

import msgspec

from backends.options import MlxOptions
from gateway.config.problems import Report
from gateway.config.structs import Config

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PATH_STARTS = ("./", "../", "/", "~/")


def resolve_models(config: Config, base: Path, env: Mapping[str, str], report: Report) -> Config:
    """Make directories absolute, as seen from `base`, where the file is. Reads directories only."""
    backends = {}
    for name, options in config.backends.items():
        backends[name] = options
        if not isinstance(options, MlxOptions):
            continue
        try:
            model = _locate(options.model, base, env)
        except ValueError as error:
            report.add(("backends", name, "model"), str(error))
        else:
            backends[name] = msgspec.structs.replace(options, model=model)
    return msgspec.structs.replace(config, backends=backends)


def _locate(model: str, base: Path, env: Mapping[str, str]) -> str:
    """The absolute directory, or the hub id as it is. Raises `ValueError`."""
    if "\0" in model:
        raise ValueError("holds a NUL character")
    home = env.get("HOME")
    place = base / (home + model[1:] if home and model.startswith("~/") else model)
    try:
        if place.is_dir():
            return str(place.resolve())
        is_file, has_parent = place.is_file(), place.parent.is_dir()
    except OSError as error:
        raise ValueError(f'"{model[:64]}" cannot be looked at: {error.strerror}') from None
    if is_file:
        raise ValueError(f"expected the directory of an MLX model, found the file {place}")
    if model.startswith(_PATH_STARTS) or (has_parent and "/" in model):
        raise ValueError(f"there is no directory {place}{_near(place)}")
    if not _HUB_ID.fullmatch(model):
        raise ValueError(
            f'"{model[:64]}" is neither a directory beside this file nor a hub id such as org/name'
        )
    return model


def _near(place: Path) -> str:
    try:
        siblings = [path.name for path in place.parent.iterdir() if path.is_dir()]
    except OSError:  # it is not there, or not ours to read
        return ""
    near = get_close_matches(place.name, siblings, n=1)
    return f'; did you mean "{near[0]}"?' if near else ""

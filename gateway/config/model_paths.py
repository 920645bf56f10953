"""Where the `model` of an in-process engine is: a directory, a GGUF file, or an id on the hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

import msgspec

from backends.options import LlamaCppOptions, MlxOptions
from gateway.config.problems import Report
from gateway.config.structs import Config

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PATH_STARTS = ("./", "../", "/", "~/")


def resolve_models(config: Config, base: Path, env: Mapping[str, str], report: Report) -> Config:
    """Make paths absolute, as seen from `base`, where the file is. Reads directories only."""
    backends = {}
    for name, options in config.backends.items():
        backends[name] = options
        if not isinstance(options, MlxOptions | LlamaCppOptions):
            continue
        locate = _locate_file if isinstance(options, LlamaCppOptions) else _locate
        try:
            model = locate(options.model, base, env)
        except ValueError as error:
            report.add(("backends", name, "model"), str(error))
        else:
            backends[name] = msgspec.structs.replace(options, model=model)
    return msgspec.structs.replace(config, backends=backends)


def _locate(model: str, base: Path, env: Mapping[str, str]) -> str:
    """The absolute directory, or the hub id as it is. Raises `ValueError`."""
    place = _place(model, base, env)
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


def _locate_file(model: str, base: Path, env: Mapping[str, str]) -> str:
    """The absolute path of a GGUF file. Raises `ValueError`."""
    place = _place(model, base, env)
    try:
        if place.is_file():
            return str(place.resolve())
        is_dir = place.is_dir()
    except OSError as error:
        raise ValueError(f'"{model[:64]}" cannot be looked at: {error.strerror}') from None
    if is_dir:
        raise ValueError(f"expected a .gguf file, found the directory {place}{_gguf_in(place)}")
    raise ValueError(f"there is no file {place}{_near(place, files=True)}")


def _place(model: str, base: Path, env: Mapping[str, str]) -> Path:
    if "\0" in model:
        raise ValueError("holds a NUL character")
    home = env.get("HOME")
    return base / (home + model[1:] if home and model.startswith("~/") else model)


def _gguf_in(place: Path) -> str:
    found = sorted(path.name for path in place.glob("*.gguf"))
    if found:
        return f"; did you mean {found[0]} in it?"
    safetensors = any(place.glob("*.safetensors"))
    return "; safetensors are served with `use: mlx` or `use: vllm`" if safetensors else ""


def _near(place: Path, *, files: bool = False) -> str:
    try:
        siblings = [path.name for path in place.parent.iterdir() if path.is_file() == files]
    except OSError:  # it is not there, or not ours to read
        return ""
    near = get_close_matches(place.name, siblings, n=1)
    return f'; did you mean "{near[0]}"?' if near else ""

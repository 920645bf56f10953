"""Where the `model` of an in-process engine is: a directory, a GGUF file, or an id on the hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from backends.options import LlamaCppOptions, MlxOptions
from gateway.config.places import ggufs_in, hub_id, look, near
from gateway.config.problems import Report
from gateway.config.structs import Config


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
    place = look(model, base, env)
    if place.is_dir:
        return str(place.path.resolve())
    if place.is_file:
        found = f"expected the directory of an MLX model, found the file {place.path}"
        gguf = place.path.suffix == ".gguf"
        raise ValueError(f"{found}; GGUF files are served with `use: llama_cpp`" if gguf else found)
    return hub_id(model, place.path, what="directory")


def _locate_file(model: str, base: Path, env: Mapping[str, str]) -> str:
    """The absolute path of a GGUF file. Raises `ValueError`."""
    place = look(model, base, env)
    if place.is_file:
        return str(place.path.resolve())
    if place.is_dir:
        hint = _what_is_in(place.path)
        raise ValueError(f"expected a .gguf file, found the directory {place.path}{hint}")
    raise ValueError(f"there is no file {place.path}{near(place.path)}")


def _what_is_in(folder: Path) -> str:
    if found := ggufs_in(folder):
        return f"; did you mean {found[0].name} in it?"
    safetensors = any(folder.glob("*.safetensors"))
    return "; safetensors are served with `use: mlx` or `use: vllm`" if safetensors else ""

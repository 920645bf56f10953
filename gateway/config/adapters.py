"""LoRA adapters in a configuration: the models they make, where they are, what cannot be.

Whoever may ask for a model may be given a name for it with each adapter of its engine:
`MODEL:ADAPTER`. These models are written nowhere, so this is the one place that knows them, and
the routing table and the checks both ask it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from backends.options import BackendOptions, LaunchableOptions, LlamaServerOptions, MlxOptions
from gateway.config import problems
from gateway.config.names import is_glob
from gateway.config.places import ggufs_in, look, near
from gateway.config.problems import Report
from gateway.config.structs import Config, Model

SEPARATOR = ":"
"""Between a model and an adapter, in the name of what they make together."""


class AdapterModel(msgspec.Struct, frozen=True):
    """A model with one adapter, as a model of its own."""

    parent: str
    """The model as routing.yaml names it."""
    adapter: str
    model: Model


def adapter_models(config: Config) -> dict[str, AdapterModel]:
    """Every `MODEL:ADAPTER`, in the order of the file; a glob has none.

    Of a model with several variants, those take part that have no adapter yet and whose backend
    has this one. What backends are missing is nobody's business here.
    """
    made = {}
    for name, model in config.models.items():
        if is_glob(name):
            continue
        for adapter in _offered(model, config):
            derived = _with_adapter(model, adapter, config)
            if derived is not None:
                made[joined(name, adapter)] = AdapterModel(name, adapter, derived)
    return {name: one for name, one in made.items() if name not in config.models}


def joined(model: str, adapter: str) -> str:
    """What a client asks for to get `model` with `adapter`."""
    return f"{model}{SEPARATOR}{adapter}"


def adapters_of(options: BackendOptions | None) -> Mapping[str, str]:
    """The adapters of a backend: name to path."""
    loras = () if options is None else sorted(options.loras, key=lambda one: one.name)
    return {one.name: one.path for one in loras}


def takes_adapters(options: BackendOptions) -> bool:
    """Whether this kind of engine can have adapters at all."""
    return "adapters" in options.__struct_fields__


def _offered(model: Model, config: Config) -> list[str]:
    """The adapters that `model` can be asked for with."""
    names: dict[str, None] = {}
    for variant in model.arms().values():
        if variant.adapter is None:
            names.update(dict.fromkeys(adapters_of(config.backends.get(variant.backend))))
    return list(names)


def _with_adapter(model: Model, adapter: str, config: Config) -> Model | None:
    arms = {
        arm: msgspec.structs.replace(variant, adapter=adapter)
        for arm, variant in model.arms().items()
        if variant.adapter is None and adapter in adapters_of(config.backends.get(variant.backend))
    }
    if all(variant.weight == 0 for variant in arms.values()):
        return None
    return msgspec.structs.replace(
        model,
        backend=None,
        model=None,
        variants=arms,
        aliases=tuple(joined(alias, adapter) for alias in model.aliases if not is_glob(alias)),
        rules=tuple(rule for rule in model.rules if rule.variant in arms),
    )


def resolve_adapters(config: Config, base: Path, env: Mapping[str, str], report: Report) -> Config:
    """Make paths absolute, as seen from `base`, where the file is. Only looks whether they exist.

    An engine elsewhere has places of its own: an absolute path that is not here stays as it is.
    """
    backends = dict(config.backends)
    for name, options in config.backends.items():
        found = {}
        for adapter, path in adapters_of(options).items():
            try:
                found[adapter] = locate(options, path, base, env)
            except ValueError as error:
                report.add(("backends", name, "adapters", adapter), str(error))
                found[adapter] = path
        if found:
            backends[name] = msgspec.structs.replace(options, adapters=found)
    return msgspec.structs.replace(config, backends=backends)


def locate(options: BackendOptions, path: str, base: Path, env: Mapping[str, str]) -> str:
    """Where the engine of `options` finds the adapter `path`. Raises `ValueError`."""
    is_llama = isinstance(options, LlamaServerOptions)
    here = not isinstance(options, LaunchableOptions) or options.launch is not None
    seen = look(path, base, env)
    place = seen.path
    if seen.is_dir or seen.is_file:
        found = str(_gguf_in(place) if is_llama and seen.is_dir else place.resolve())
        if not is_llama and seen.is_file:
            raise ValueError(f"expected the directory of an adapter, found the file {place}")
    elif here or not path.startswith("/"):
        raise ValueError(f"there is no {'file' if is_llama else 'directory'} {place}{near(place)}")
    else:
        found = path
    if is_llama and here and ("," in found or ":" in found):
        raise ValueError("llama-server takes no `,` or `:` in the path of an adapter")
    is_here = seen.is_dir or seen.is_file
    if isinstance(options, MlxOptions) or (isinstance(options, LlamaServerOptions) and is_here):
        _check_files(options, Path(found))
    return found


def _check_files(options: MlxOptions | LlamaServerOptions, place: Path) -> None:
    """Raises `ValueError` for an adapter that the engine could not use."""
    try:
        options.check_adapter(place)
    except OSError as error:
        raise ValueError(f"{place} cannot be read: {error.strerror}") from None


def _gguf_in(folder: Path) -> Path:
    """The one GGUF file in `folder`. Raises `ValueError`."""
    files = ggufs_in(folder)
    if len(files) != 1:
        raise ValueError(
            f"expected one .gguf file in {folder}, found {len(files) or 'none'}: name the file"
        )
    return files[0].resolve()


def check_adapters(config: Config, report: Report) -> None:
    """Whether each adapter that is named is there, and each name is one model's."""
    for path, backend, adapter in _named(config):
        if adapter is not None and backend in config.backends:
            _adapter_exists(path, backend, adapter, config, report)
    derived = adapter_models(config)
    for name, model in config.models.items():
        if model.adapter is not None and model.variants:
            hint = "give it to each variant that needs it"
            at = ("models", name, "adapter")
            report.add(at, "`adapter` goes with `backend`, not with `variants`", hint)
        _clash(("models", name), name, config, report)
        for position, alias in report.numbered(("models", name, "aliases"), model.aliases):
            if alias in derived:
                _clash(("models", name, "aliases", position), alias, config, report)


def _named(config: Config) -> Iterator[tuple[problems.Path, str, str | None]]:
    """Where an adapter may be named: the path, the backend, the name."""
    for name, model in config.models.items():
        if model.backend is not None:
            yield ("models", name, "adapter"), model.backend, model.adapter
        for arm, variant in model.variants.items():
            at = ("models", name, "variants", arm, "adapter")
            yield at, variant.backend, variant.adapter


def _adapter_exists(
    path: problems.Path, backend: str, adapter: str, config: Config, report: Report
) -> None:
    known = adapters_of(config.backends[backend])
    if adapter in known or report.written(("backends", backend, "adapters", adapter)):
        return
    if not known:
        hint = f"add it: backends.{backend}.adapters: {{{adapter}: PATH}}"
        report.add(path, f'the backend "{backend}" has no adapters', hint)
        return
    near = report.suggest(adapter, known)
    report.add(path, f'the backend "{backend}" has no adapter "{adapter}"', near)


def _owner(name: str, config: Config) -> tuple[str, str] | None:
    """The model and the adapter that `name` is of, if any."""
    parent, separator, adapter = name.rpartition(SEPARATOR)
    model = config.models.get(parent)
    if separator and model is not None and adapter in _offered(model, config):
        return parent, adapter
    return None


def _clash(path: problems.Path, name: str, config: Config, report: Report) -> None:
    """Report `name` where it is what a model and an adapter are called together."""
    owner = _owner(name, config)
    if owner is not None:
        what = f'"{name}" is already the model "{owner[0]}" with its adapter "{owner[1]}"'
        report.add(path, what, "call one of the three something else")

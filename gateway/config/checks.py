"""What types cannot say: whether the parts of a configuration fit together.

Every check takes what could be built and adds to the report. A check of a whole is left out
where its parts are wrong, and a name that is written counts as there even if what it names is
wrong: so one mistake is told once.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Iterator

from backends.base_url import Base, parse_base
from backends.options import HttpOptions
from gateway.config.adapters import adapter_models, check_adapters
from gateway.config.consistency import check_consistency
from gateway.config.discovery import check_discovery
from gateway.config.launches import check_launches
from gateway.config.names import Glob, NameIndex, is_glob
from gateway.config.problems import ConfigErrors, Path, Report
from gateway.config.structs import Config, Fallback, Model, Rule

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CREDENTIALS = re.compile(r"^https?://[^/]*@")


def check(config: Config, report: Report) -> None:
    """Run every check."""
    for one in _CHECKS:
        one(config, report)


def objection(config: Config) -> str | None:
    """What does not fit together in `config`, which no file says as a whole; else None."""
    report = Report("")
    for section, names in (
        ("backends", config.backends),
        ("models", config.models),
        ("keys", config.keys),
    ):
        report.place((section,), 1, 1)
        for name in names:
            report.place((section, name), 1, 1)
    check(config, report)
    try:
        report.raise_any()
    except ConfigErrors as errors:
        return "; ".join(f"{one.path}: {one.message}" for one in errors.problems)
    return None


def model_index(config: Config) -> NameIndex[str]:
    """Names, aliases and globs, each with the name of its model; those with an adapter too."""
    names = [(name, name) for name in config.models]
    aliases = [(alias, name) for name, model in config.models.items() for alias in model.aliases]
    derived = [
        (alias, name)
        for name, one in adapter_models(config).items()
        for alias in (name, *one.model.aliases)
    ]
    return NameIndex([*names, *aliases, *derived])


def _replicas(config: Config, report: Report) -> None:
    for name, options in config.backends.items():
        if not isinstance(options, HttpOptions):
            continue
        seen: dict[Base, int] = {}
        replicas: Path = ("backends", name, "replicas")
        for position, url in report.numbered(replicas, options.urls):
            path = (*replicas, position)
            if _CREDENTIALS.match(url):
                report.add(path, "found credentials in a URL, which is shown", "use `api_key`")
                continue
            try:
                base = parse_base(url)
            except ValueError as error:
                report.add(path, str(error), "give one such as http://10.0.0.1:8000")
                continue
            first = seen.setdefault(base, position)
            if first != position:
                report.add(path, f'"{url}" is here twice', f"it is replicas[{first}] too")


def _shape(config: Config, report: Report) -> None:
    for name, model in config.models.items():
        path: Path = ("models", name)
        if report.within(path):
            continue
        if model.backend is not None and model.variants:
            report.add((*path, "variants"), "found both `backend` and `variants`", "keep one")
        elif model.backend is None and not model.variants:
            near = "name its engine: backend: NAME"
            report.add(path, "expected `backend` or `variants`, found neither", near)
        elif model.variants and model.model is not None:
            hint = "give it to each variant that needs it"
            report.add((*path, "model"), "`model` goes with `backend`, not with `variants`", hint)
        elif model.variants and model.checkpoint is not None:
            hint = "give it to each variant that is made of it"
            what = "`checkpoint` goes with `backend`, not with `variants`"
            report.add((*path, "checkpoint"), what, hint)
        elif all(variant.weight == 0 for variant in model.arms().values()):
            hint = "give one variant a weight above 0"
            report.add((*path, "variants"), "the weights of all variants are 0", hint)


def _backends_exist(config: Config, report: Report) -> None:
    for name, model in config.models.items():
        path: Path = ("models", name)
        if model.backend is not None:
            _backend_exists((*path, "backend"), model.backend, report)
        for arm, variant in model.variants.items():
            _backend_exists((*path, "variants", arm, "backend"), variant.backend, report)


def _backend_exists(path: Path, name: str, report: Report) -> None:
    if not report.written(("backends", name)):
        _missing(path, "backend", name, report.names(("backends",)), report)


def _missing(path: Path, noun: str, name: str, known: Iterable[str], report: Report) -> None:
    report.add(path, f'no {noun} is called "{_cut(name)}"', report.suggest(name, known))


def _cut(name: str) -> str:
    return name if len(name) <= 64 else name[:64] + "…"


def _rules(config: Config, report: Report) -> None:
    for name, model in config.models.items():
        if report.within(("models", name, "rules")):
            continue
        rules: Path = ("models", name, "rules")
        for position, rule in report.numbered(rules, model.rules):
            _rule((*rules, position), rule, model, report)


def _rule(path: Path, rule: Rule, model: Model, report: Report) -> None:
    if not rule.when.headers and not rule.when.keys:
        hint = "give `headers` or `keys`; for all requests use the weights"
        report.add((*path, "when"), "the condition is empty", hint)
    for header in rule.when.headers:
        if not _HEADER_NAME.fullmatch(header):
            at = (*path, "when", "headers", header)
            report.add(at, "is no name of an HTTP header", "it may hold letters, digits and -")
    keys = (*path, "when", "keys")
    for position, key in report.numbered(keys, rule.when.keys):
        at = (*keys, position)
        if not report.written(("keys", key)):
            _missing(at, "key", key, report.names(("keys",)), report)
    arms = model.arms()
    if rule.variant not in arms and not report.written((*path[:2], "variants", rule.variant)):
        _missing((*path, "variant"), "variant", rule.variant, arms, report)


def _aliases(config: Config, report: Report) -> None:
    owners: dict[str, str] = {}
    for name, model in config.models.items():
        aliases: Path = ("models", name, "aliases")
        for position, alias in report.numbered(aliases, model.aliases):
            path = (*aliases, position)
            if report.written(("models", alias)):
                report.add(path, f'"{alias}" is the name of a model already', "drop the alias")
            elif alias in owners:
                report.add(path, f'"{alias}" is an alias of "{owners[alias]}" already', "keep one")
            owners.setdefault(alias, name)


def _fallbacks(config: Config, report: Report) -> None:
    index = model_index(config)
    # A model with an adapter falls back as the model does.
    parents = {name: one.parent for name, one in adapter_models(config).items()}
    # What is told of one cause's list leaves the others to be looked at.
    wrong = [name for name in config.models if report.within(("models", name, "fallback"))]
    for cause in Fallback.__struct_fields__:
        targets: dict[str, set[str]] = {name: set() for name in config.models}
        for name, path, wanted in _fallback_names(config, cause, wrong, report):
            target = index.find(wanted)
            if is_glob(wanted):
                report.add(path, f'expected one model, found the glob "{wanted}"', "name a model")
            elif target is not None:
                target = parents.get(target, target)
                if target == name:
                    report.add(path, f'"{_cut(wanted)}" is this model itself', "name another one")
                elif target in targets[name]:
                    report.add(path, f'"{_cut(wanted)}" is here twice', "keep one")
                elif cause == "context" and _is_same(target, name, config):
                    what = f'"{_cut(wanted)}" is the same engine, for which it is as long'
                    report.add(path, what, "name a model with a longer window")
                targets[name].add(target)
            elif not report.written(("models", wanted)):
                _missing(path, "model", wanted, report.names(("models",)), report)


def _fallback_names(
    config: Config, cause: str, wrong: Collection[str], report: Report
) -> Iterator[tuple[str, Path, str]]:
    """Each model, where it names one to fall back to for `cause`, and that name."""
    for name, model in config.models.items():
        place: Path = ("models", name, "fallback")
        names = getattr(model.fallbacks(), cause)
        if name in wrong or not names:
            continue
        if isinstance(model.fallback, Fallback):
            place = (*place, cause)
        for position, wanted in report.numbered(place, names):
            yield name, (*place, position), wanted


def _is_same(one: str, other: str, config: Config) -> bool:
    """Whether all that may answer for `one` may answer for `other` too."""
    return _engines(one, config) <= _engines(other, config)


def _engines(name: str, config: Config) -> set[tuple[str, str]]:
    """The backends of a model, each with what it calls the model."""
    engines = set()
    for variant in config.models[name].arms().values():
        options = config.backends.get(variant.backend)
        known = None if options is None else options.model
        engines.add((variant.backend, variant.model or known or name))
    return engines


def _keys(config: Config, report: Report) -> None:
    index = model_index(config)
    owners: dict[bytes, str] = {}
    for name, key in config.keys.items():
        owner = owners.setdefault(key.value.digest, name)
        if owner != name:
            report.add(
                ("keys", name, "value"), f'is the same as that of "{owner}"', "make a new one"
            )
        models: Path = ("keys", name, "models")
        for position, wanted in report.numbered(models, key.models):
            written = report.written(("models", wanted))
            if not written and not _names_a_model(wanted, index, config):
                _missing((*models, position), "model", wanted, report.names(("models",)), report)


def _names_a_model(wanted: str, index: NameIndex[str], config: Config) -> bool:
    if index.find(wanted) is not None:
        return True
    if not is_glob(wanted):
        return False
    glob = Glob(wanted)
    names = [alias for model in config.models.values() for alias in model.aliases]
    every = [*config.models, *names, *adapter_models(config)]
    return any(is_glob(name) or glob.matches(name) for name in every)


def _listening(config: Config, report: Report) -> None:
    server = config.server
    if report.written(("keys",)) or not is_open_to_others(config, server.host):
        return
    report.add(
        ("server", "host"),
        f'"{server.host}" can be reached from other machines, and there are no keys',
        "add `keys:`, listen on 127.0.0.1, or say `insecure: true` if others guard the way here",
    )


def is_open_to_others(config: Config, host: str) -> bool:
    """Whether a gateway that listens on `host` would answer anybody on other machines."""
    return not (config.keys or config.server.insecure or is_loopback(host))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. A name other than localhost may be anything."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


_CHECKS: tuple[Callable[[Config, Report], None], ...] = (
    check_launches,
    check_discovery,
    _replicas,
    _shape,
    _backends_exist,
    _rules,
    _aliases,
    check_adapters,
    _fallbacks,
    _keys,
    _listening,
    check_consistency,
)

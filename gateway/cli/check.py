"""`gateway check [FILE]`: say everything that is wrong with a file, or what it comes to."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap

import msgspec

from backends.options import BackendOptions, HttpOptions, LaunchableOptions
from gateway import config
from gateway.cli import which_file
from gateway.cli.console import warn
from gateway.cli.settings import Settings, settings, written
from gateway.config.adapters import adapter_models
from gateway.config.structs import Config, Fallback, Model

WRONG = 2
"""The exit code for a file with mistakes."""

_WIDTH = 92
_IN_ROWS = frozenset(
    ("backend", "model", "adapter", "checkpoint", "variants", "aliases", "rules", "fallback")
)
"""Keys of a model that its rows tell of."""
_OF_REPLICAS = frozenset(("slow_start", "health", "outlier_detection"))
"""Keys of a backend that decide when which replica gets requests."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the ones `gateway` knows."""
    parser = subparsers.add_parser("check", help="check routing.yaml and show what it comes to")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help=which_file.HELP)
    parser.add_argument("--all", action="store_true", help="show what is left at its default too")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print a summary, or the problems on standard error; the exit code."""
    file = which_file.chosen(args.file)
    try:
        checked = config.load(file, os.environ, warn)
    except config.ConfigErrors as errors:
        print(errors, file=sys.stderr)
        return WRONG
    print(f"{file} is fine: {summary(checked, defaults=args.all)}")
    return 0


def summary(checked: Config, *, defaults: bool = False) -> str:
    """Show models, their variants with shares, backends and replicas, one variant a line; and what
    is in force of all other keys of routing, apart from the `defaults` or with them."""
    server = checked.server
    open_to = "" if checked.keys else ", open to all who reach it"
    counts = ", ".join(
        [
            _count(len(checked.models), "model"),
            _count(len(checked.backends), "backend"),
            _count(len(checked.keys), "key"),
        ]
    )
    rows: list[list[str]] = []
    for name, model in checked.models.items():
        rows += _rows(name, model, checked)
        rows += ([f"  {line}"] for line in _told(_of_model(model), defaults))
    parts = [f"{counts}; http://{_host(server.host)}:{server.port}{open_to}", _table(rows)]
    parts += ("\n".join(f"  {line}" for line in lines) for lines in _shared(checked, defaults))
    return "\n\n".join(parts)


def _of_model(model: Model) -> Settings:
    """What is no part of its rows."""
    if model.concurrency is None:
        return settings(model, {*_IN_ROWS, "queue"})
    own, usual = settings(model, {*_IN_ROWS, "queue"})
    return Settings((*own, f"queue: {written(model.queue)}"), usual)


def _shared(checked: Config, defaults: bool) -> Iterator[list[str]]:
    """What holds for all models of a backend, and for all requests."""
    for name, options in checked.backends.items():
        if isinstance(options, HttpOptions):
            others = set(options.__struct_fields__) - _OF_REPLICAS
            lines = list(_told(settings(options, others), defaults))
            if lines:
                yield [f"backend {name}", *(f"  {line}" for line in lines)]
    lines = list(_told(settings(checked.retry_budget), defaults))
    if lines:
        yield ["retry_budget", *(f"  {line}" for line in lines)]


def _told(found: Settings, defaults: bool) -> Iterator[str]:
    yield from _lines(found.own)
    if defaults and found.usual:
        yield from _lines((f"default: {found.usual[0]}", *found.usual[1:]), then="  ")


def _lines(keys: Sequence[str], then: str = "") -> Iterator[str]:
    """As many `keys` on a line as there is room for; all lines but the first begin with `then`."""
    line = ""
    for key in keys:
        if line and len(line) + len(f", {key}") >= _WIDTH:
            yield f"{line},"
            line = then + key
        else:
            line = f"{line}, {key}" if line else key
        if len(line) > _WIDTH:
            *full, line = wrap(line, _WIDTH, subsequent_indent=then + "  ")
            yield from full
    if line:
        yield line


def _host(host: str) -> str:
    return f"[{host.strip('[]')}]" if ":" in host else host


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _rows(name: str, model: Model, checked: Config) -> Iterator[list[str]]:
    arms = model.arms()
    total = sum(variant.weight for variant in arms.values())
    first = name
    for arm, variant in arms.items():
        options = checked.backends[variant.backend]
        share = f"{100 * variant.weight / total:.3g}%"
        engine = f"{_kind(options)} {_replicas(options)}"
        weights = "" if variant.checkpoint is None else f", checkpoint {variant.checkpoint}"
        yield [first, arm, share, variant.backend, engine + weights]
        first = ""
    tuned = [alias for alias, one in adapter_models(checked).items() if one.parent == name]
    if model.aliases or tuned:
        yield [f"  also {', '.join([*model.aliases, *tuned])}"]
    if model.rules:
        yield [f"  {_count(len(model.rules), 'rule')} before the weights"]
    yield from ([f"  {line}"] for line in _fallbacks(model))


def _fallbacks(model: Model) -> Iterator[str]:
    if not isinstance(model.fallback, Fallback):
        if model.fallback:
            yield f"falls back to {', '.join(model.fallback)}"
        return
    when = {"unavailable": "unavailable", "overloaded": "overloaded", "context": "out of context"}
    for cause, said in when.items():
        names = getattr(model.fallback, cause)
        if names:
            yield f"where {said}, falls back to {', '.join(names)}"


def _kind(options: BackendOptions) -> str:
    return str(msgspec.inspect.type_info(type(options)).tag)  # type: ignore[attr-defined]


def _replicas(options: BackendOptions) -> str:
    if isinstance(options, LaunchableOptions) and options.launch is not None:
        times = f", {options.count} times" if options.count > 1 else ""
        return f"{options.launch.model}, started by the gateway{times}"
    if isinstance(options, HttpOptions) and options.discover is not None:
        return f"found by {options.discover.where}"
    if isinstance(options, HttpOptions):
        return " ".join(url + _weight(options.weight(url)) for url in options.urls)
    return str(options.model)


def _weight(weight: float) -> str:
    return "" if weight == 1 else f" ({weight:g} times)"


def _table(rows: list[list[str]]) -> str:
    """Rows with columns aligned; a row of one cell is a note and takes no part in that."""
    full = [row for row in rows if len(row) > 1]
    widths = [max(map(len, column)) for column in zip(*full, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)) if len(row) > 1 else row[0] for row in rows)
    return "\n".join(f"  {line}".rstrip() for line in lines)

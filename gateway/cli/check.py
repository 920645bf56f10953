"""`gateway check [FILE]`: say everything that is wrong with a file, or what it comes to."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from backends.options import BackendOptions, HttpOptions, LaunchableOptions
from gateway import config
from gateway.cli import which_file
from gateway.config.adapters import adapter_models
from gateway.config.structs import Config, Fallback, Model

WRONG = 2
"""The exit code for a file with mistakes."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the ones `gateway` knows."""
    parser = subparsers.add_parser("check", help="check routing.yaml and show what it comes to")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help=which_file.HELP)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print a summary, or the problems on standard error; the exit code."""
    file = which_file.chosen(args.file)
    try:
        checked = config.load(file, os.environ)
    except config.ConfigErrors as errors:
        print(errors, file=sys.stderr)
        return WRONG
    print(f"{file} is fine: {summary(checked)}")
    return 0


def summary(checked: Config) -> str:
    """Show models, their variants with shares, backends and replicas, one variant a line."""
    server = checked.server
    open_to = "" if checked.keys else ", open to all who reach it"
    counts = ", ".join(
        [
            _count(len(checked.models), "model"),
            _count(len(checked.backends), "backend"),
            _count(len(checked.keys), "key"),
        ]
    )
    rows = [row for name, model in checked.models.items() for row in _rows(name, model, checked)]
    return f"{counts}; http://{_host(server.host)}:{server.port}{open_to}\n\n{_table(rows)}"


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
        yield [first, arm, share, variant.backend, engine]
        first = ""
    tuned = [alias for alias, one in adapter_models(checked).items() if one.parent == name]
    if model.aliases or tuned:
        yield [f"  also {', '.join([*model.aliases, *tuned])}"]
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

"""`gateway plan [FILE]`: what would run, without running any of it.

For engines that the gateway starts, those of `isolation: process` among them: the whole command,
where its log goes, how long it may take; for the others, where they are. Then what is loaded into
this machine's memory, and whether it fits.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from backends.isolation.options import IsolatedOptions
from backends.launch.argv import command_line, environment, masked
from backends.launch.backend import weights_size
from backends.launch.engine_log import log_file
from backends.launch.life import missing
from backends.memory import Footprint, machine_memory, refusal, sequences, written
from backends.options import HttpOptions, InProcessOptions, LaunchableOptions, Options
from gateway import config
from gateway.cli import which_file
from gateway.cli.console import warn
from gateway.config.structs import Config

WRONG = 2
"""The exit code for a file with mistakes."""
WOULD_NOT_RUN = 1
"""The exit code for a plan that lacks something, or for which this machine has not the memory."""

SOCKET = "SOCKET"
"""Stands for the Unix socket that each start of an engine gets."""
_MASK = "***"
_RARE: Mapping[str, Callable[[Footprint], int]] = {
    "adapters": lambda one: one.adapters,
    "pictures": lambda one: one.pictures,
}
"""Columns of the memory table that are left out where they are all zero."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """How one replica is run."""

    replica: str
    argv: tuple[str, ...]
    """Secrets masked; `SOCKET` is where it listens."""
    cwd: str
    env: dict[str, str]
    """What is set beside the gateway's own environment; values from the file are masked."""
    log: str


class BackendPlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one backend comes to."""

    name: str
    use: str
    addresses: tuple[str, ...] = ()
    """Where its replicas are, if they run already."""
    model: str | None = None
    """What is loaded into this process, or into a process of its own: a place or a hub id."""
    commands: tuple[Command, ...] = ()
    start_timeout: float | None = None
    """Seconds; so are the others."""
    stop_timeout: float | None = None
    stall_timeout: float | None = None
    idle_unload: float | None = None
    preload: bool | None = None
    memory: int | None = None
    """Bytes one replica holds of `memory_limit`: as written, or the size of its weights."""
    footprint: Footprint | None = None
    """What is taken of this machine's memory, in this process or in one of its own."""
    problems: tuple[str, ...] = ()
    """What would keep it from starting, as far as files tell."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that `gateway serve` would run."""

    backends: tuple[BackendPlan, ...]
    memory_limit: int | None
    machine_memory: int
    """Bytes this process may use at most."""
    refusal: str | None
    """Why it does not fit, with the numbers and what to change."""
    warning: str | None = None
    """Why it may not: not all of it need be in the memory of this machine."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the ones `gateway` knows."""
    parser = subparsers.add_parser("plan", help="show what would run, and what memory it takes")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help=which_file.HELP)
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the plan, or the problems on standard error; the exit code."""
    file = which_file.chosen(args.file)
    try:
        checked = config.load(file, os.environ, warn)
    except config.ConfigErrors as errors:
        print(errors, file=sys.stderr)
        return WRONG
    plan = make_plan(checked, machine_memory(), os.environ, Path.cwd())
    print(msgspec.json.encode(plan, enc_hook=_number).decode() if args.json else told(plan))
    if plan.warning is not None:
        print(f"warning: {plan.warning}", file=sys.stderr)
    wrong = [f"{file}: {line}" for line in _wrong(plan)]
    for line in wrong:
        print(line, file=sys.stderr)
    return WOULD_NOT_RUN if wrong else 0


def _wrong(plan: Plan) -> Iterator[str]:
    for one in plan.backends:
        yield from (f"backends.{one.name}: {problem}" for problem in one.problems)
    if plan.refusal is not None:
        yield plan.refusal


def _number(value: object) -> int | float:
    """A size or a duration, which is a number with a type of its own."""
    return int(value) if isinstance(value, int) else float(value)  # type: ignore[arg-type]


def make_plan(checked: Config, memory: int, env: Mapping[str, str], cwd: Path) -> Plan:
    """What `checked` comes to on a machine with `memory` bytes. Reads models' files."""
    backends = tuple(_backend(name, one, env, cwd) for name, one in checked.backends.items())
    footprints = {one.name: one.footprint for one in backends if one.footprint is not None}
    return Plan(
        backends=backends,
        memory_limit=checked.memory_limit,
        machine_memory=memory,
        refusal=refusal(footprints, memory) if footprints else None,
        warning=_warning(backends, checked.memory_limit, memory),
    )


def _warning(backends: Iterable[BackendPlan], memory_limit: int | None, memory: int) -> str | None:
    """Weigh what the gateway starts against the machine: on a GPU it would not be there."""
    launched = sum(
        (one.memory or 0) * len(one.commands) for one in backends if one.footprint is None
    )
    held = launched if memory_limit is None else min(launched, memory_limit)
    loaded = sum(one.footprint.total for one in backends if one.footprint is not None)
    if held and held + loaded > memory:
        beside = f" beside {written(loaded)} of models loaded here" if loaded else ""
        return (
            f"engines that the gateway starts hold {written(held)} at once{beside}, and this "
            f"machine has {written(memory)}: unless they have memory of their own, as on a GPU, "
            "set a lower `memory_limit`"
        )
    if memory_limit is not None and memory_limit > memory:
        return (
            f"`memory_limit` is {written(memory_limit)}, and this machine has {written(memory)}: "
            "engines that have no memory of their own may take more than there is"
        )
    return None


def _backend(name: str, options: Options, env: Mapping[str, str], cwd: Path) -> BackendPlan:
    use = str(msgspec.inspect.type_info(type(options)).tag)  # type: ignore[attr-defined]
    if isinstance(options, LaunchableOptions) and options.launch is not None:
        return _launched(name, use, options, env, cwd)
    if isinstance(options, HttpOptions):
        found = () if options.discover is None else (f"what is found by {options.discover.where}",)
        return BackendPlan(name=name, use=use, addresses=found or options.urls)
    objection, footprint = options.objection(), None
    if objection is None:
        try:
            footprint = options.footprint()
        except (ValueError, OSError) as error:
            objection = str(error)
    if isinstance(options, InProcessOptions) and options.isolation == "process":
        plan = _launched(name, use, IsolatedOptions.of(options), env, cwd)
    else:
        plan = BackendPlan(name=name, use=use)
    problems = () if objection is None else (objection,)
    return msgspec.structs.replace(
        plan, model=options.model, footprint=footprint, problems=problems
    )


def _launched(
    name: str, use: str, options: LaunchableOptions, env: Mapping[str, str], cwd: Path
) -> BackendPlan:
    launch = options.launch
    assert launch is not None, "it is started by the gateway"
    argv = masked(command_line(options, SOCKET))
    problems = [options.objection(), missing(argv[0], environment(options, env))]
    added = {
        key: _MASK if key in launch.env else value
        for key, value in environment(options, {}).items()
    }
    replicas = [f"{name}@{number}" for number in range(options.count)]
    return BackendPlan(
        name=name,
        use=use,
        commands=tuple(
            Command(replica=one, argv=argv, cwd=str(cwd), env=added, log=str(log_file(one, env)))
            for one in replicas
        ),
        start_timeout=launch.start_timeout,
        stop_timeout=launch.stop_timeout,
        stall_timeout=launch.stall_timeout,
        idle_unload=launch.idle_unload,
        preload=launch.preload,
        memory=launch.memory or weights_size(launch.model) or None,
        problems=tuple(problem for problem in problems if problem is not None),
    )


def told(plan: Plan) -> str:
    """The plan for people."""
    lines = [line for one in plan.backends for line in _tell_backend(one)]
    lines += _tell_limit(plan)
    lines += _tell_memory(plan)
    return "\n".join(lines)


def _tell_backend(one: BackendPlan) -> Iterator[str]:
    if not one.commands:
        where = f"in this process: {one.model}" if one.model else f"at {' '.join(one.addresses)}"
        yield f"{one.name} ({one.use}) {where}"
        yield ""
        return
    whose = f"in a process of its own: {one.model}" if one.model else "started by the gateway"
    yield f"{one.name} ({one.use}), {whose}"
    first = one.commands[0]
    yield f"  runs    {shlex.join(first.argv)}"
    yield f"  in      {first.cwd}"
    if first.env:
        yield f"  with    {' '.join(f'{key}={value}' for key, value in first.env.items())}"
    for command in one.commands:
        yield f"  {command.replica} logs to {command.log}"
    yield f"  starts  {'with the gateway' if one.preload else 'at the first request'}, " + (
        f"within {one.start_timeout:g} s; stops within {one.stop_timeout:g} s; "
        f"hangs after {one.stall_timeout:g} s without a token; started again when it dies or hangs"
    )
    if one.idle_unload is not None:
        yield f"  sleeps  after {one.idle_unload:g} s without a request"
    yield ""


def _tell_limit(plan: Plan) -> Iterator[str]:
    if plan.memory_limit is None:
        return
    held = [(one, len(one.commands)) for one in plan.backends if one.commands]
    total = sum((one.memory or 0) * count for one, count in held)
    parts = [
        f"{one.name} {f'{count} times ' if count > 1 else ''}"
        f"{written(one.memory) if one.memory else 'measured once it runs'}"
        for one, count in held
    ]
    fits = "all fit" if total <= plan.memory_limit else "they take turns"
    yield f"memory_limit {written(plan.memory_limit)}: {', '.join(parts)}; {fits}"
    yield ""


def _tell_memory(plan: Plan) -> Iterator[str]:
    rows = [(one.name, one.footprint) for one in plan.backends if one.footprint is not None]
    if not rows:
        return
    head = ["weights", "adapters", "KV cache", "prompt cache", "pictures", "margin", "total"]
    table = [["memory", *head, ""]]
    table += [[name, *_cells(footprint)] for name, footprint in rows]
    total = sum(footprint.total for _, footprint in rows)
    table.append(
        ["", "", "", "", "", "", "all", written(total), f"of {written(plan.machine_memory)}"]
    )
    unused = {
        table[0].index(column)
        for column, size in _RARE.items()
        if not any(size(footprint) for _, footprint in rows)
    }
    table = [[cell for at, cell in enumerate(row) if at not in unused] for row in table]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for name, *cells, why in table:
        numbers = "  ".join(map(str.rjust, cells, widths[1:-1]))
        yield f"{name.ljust(widths[0])}  {numbers}  {why}".rstrip()


def _cells(one: Footprint) -> list[str]:
    about = "about " if one.estimated else ""
    sizes = (
        *(one.weights, one.adapters, one.kv_cache, one.prompt_cache),
        *(one.pictures, one.overhead, one.total),
    )
    return [
        *map(written, sizes),
        f"KV cache for {sequences(one)}, {about}{written(one.bytes_per_token)} a token",
    ]

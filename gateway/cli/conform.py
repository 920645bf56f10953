"""`gateway conform MODEL…`: hold the engines behind models to what they promise.

The engines are started as `gateway serve` would, and asked directly: what is told is what the
engine does, before the gateway makes the best of it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path

import msgspec

from backends.base import CAPABILITY_OF, Adapter, Backend
from backends.capabilities import Capability
from backends.event_loop import loop_factory
from backends.options import Options
from gateway import config
from gateway.cli import which_file
from gateway.config.structs import Config
from gateway.conform.agreement import Agreement, compare, say_all
from gateway.conform.asking import Target
from gateway.conform.examine import READY, examine, until_ready
from gateway.conform.finding import Finding, Outcome
from gateway.conform.report import Report, table
from gateway.control.adapters import Adapters
from gateway.control.discovery import find_all
from gateway.control.engines import Engines, Plan, StartError
from gateway.control.state import Snapshot, State
from gateway.dispatch.ability import lacks
from gateway.routing.replica import Replica
from gateway.routing.table import Route, Table

WRONG = 2
"""The exit code for a file with mistakes, or a model that it does not have."""
BROKEN = 1
"""The exit code for a broken promise, or an engine that does not start."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the ones `gateway` knows."""
    parser = subparsers.add_parser("conform", help="try what the engines behind models promise")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="all their replicas are tried")
    parser.add_argument("--file", type=Path, metavar="FILE", help=which_file.HELP)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--agree",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="what any two replicas must say alike, from 0 (the default) to 1",
    )
    parser.add_argument(
        "--wait",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="how long a replica may take to get ready (default: 300)",
    )
    parser.set_defaults(run=run)


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, found {text}")
    return share


def run(args: argparse.Namespace) -> int:
    """Print what came of it, progress on standard error; the exit code."""
    file = which_file.chosen(args.file)
    try:
        checked = config.load(file, os.environ)
        routes = _resolve(checked, args.models)
    except config.ConfigErrors as errors:
        print(errors, file=sys.stderr)
        return WRONG
    except _NoSuchModelError as error:
        print(f"{file}: {error}", file=sys.stderr)
        return WRONG
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        report = runner.run(_conform(_only(checked, routes), args))
    print(msgspec.json.encode(report).decode() if args.json else table(report))
    for line in report.broken:
        _tell(f"broken: {line}")
    return BROKEN if report.broken else 0


class _NoSuchModelError(Exception):
    """A model is not in the file; the message says which are."""


def _resolve(checked: Config, models: Iterable[str]) -> list[Route]:
    """The routes of `models`, without replicas. Raises `_NoSuchModelError`."""
    names = Table.build(checked, dict.fromkeys(checked.backends, ()))
    routes = []
    for model in models:
        route = names.find(model)
        if route is None:
            known = [one.name for one in names.routes]
            near = get_close_matches(model, known, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"it has {', '.join(known)}"
            raise _NoSuchModelError(f'there is no model "{model}" in it; {hint}')
        routes.append(route)
    return routes


def _only(checked: Config, routes: Iterable[Route]) -> Config:
    """The part of `checked` that leads to `routes`: no other engine is started."""
    names = [route.parent or route.name for route in routes]
    models = {name: checked.models[name] for name in names}
    needed = {arm.backend for model in models.values() for arm in model.arms().values()}
    backends = {name: options for name, options in checked.backends.items() if name in needed}
    return msgspec.structs.replace(checked, models=models, backends=backends)


async def _conform(checked: Config, args: argparse.Namespace) -> Report:
    engines = Engines()
    try:
        checked, lost = await find_all(checked)
        plan, unopened = _openable(engines, checked)
        unopened += [Finding(name, READY, Outcome.BROKEN, why) for name, why in lost.items()]
        snapshot = engines.commit(plan)
        failures = await _start_each(engines, plan)
        adapters = Adapters(State(snapshot))
        adapters.note_faults(await adapters.load_ahead(plan.opened.values()))
        replicas = {name: _replicas(snapshot, name) for name in checked.backends}
        targets = _targets(Table.build(checked, replicas), args.models, failures)
        return await _examine_all(unopened, targets, args)
    finally:
        await engines.stop()


def _openable(engines: Engines, checked: Config) -> tuple[Plan, list[Finding]]:
    """What can be opened together, in the order of the file, and why the rest cannot."""
    fits: dict[str, Options] = {}
    plan = engines.plan(_with(checked, fits))
    findings = []
    for name, options in checked.backends.items():
        try:
            plan = engines.plan(_with(checked, {**fits, name: options}))
            fits[name] = options
        except StartError as error:
            findings.append(Finding(name, READY, Outcome.BROKEN, str(error)))
            _progress(findings[-1])
    return plan, findings


def _with(checked: Config, backends: Mapping[str, Options]) -> Config:
    """`checked` with these backends alone; models, which may lead to others, are left out."""
    return msgspec.structs.replace(checked, backends=dict(backends), models={})


def _replicas(snapshot: Snapshot, backend: str) -> tuple[Replica, ...]:
    return tuple(one for one in snapshot.replicas if one.backend_name == backend)


async def _start_each(engines: Engines, plan: Plan) -> dict[str, str]:
    """Start one backend after the other; why those failed that did, by name."""
    failures = {}
    for opened in plan.fresh:
        _tell(f"starting {opened.name}")
        try:
            await engines.start(msgspec.structs.replace(plan, fresh=(opened,)))
        except StartError as error:
            failures[opened.name] = str(error)
            _tell(f"broken: {error}")
    return failures


async def _examine_all(
    unopened: Iterable[Finding], targets: list[Target], args: argparse.Namespace
) -> Report:
    findings = list(unopened)
    answering: list[Target] = []
    for target in targets:
        findings.append(await until_ready(target, args.wait))
        _progress(findings[-1])
        if findings[-1].outcome is not Outcome.KEPT:
            continue
        answering.append(target)
        async for finding in examine(target):
            findings.append(finding)
            _progress(finding)
    return Report(
        findings=tuple(findings),
        agreements=await _agreements(answering),
        agree=args.agree,
    )


async def _agreements(targets: list[Target]) -> tuple[Agreement, ...]:
    if len(targets) < 2:
        return ()
    _tell("comparing greedy answers")
    said = {target.name: await say_all(target) for target in targets}
    return tuple(compare(one, other, said) for one, other in combinations(said, 2))


def _targets(routing: Table, models: Iterable[str], failures: Mapping[str, str]) -> list[Target]:
    """Every replica behind `models`, once for each name that it is asked by.

    `failures`: why backends could not be started, by name.
    """
    found = {
        (replica.id, variant.upstream_model(model), variant.adapter): replica
        for model in models
        for variant in routing.resolve(model).variants
        for replica in variant.replicas
    }
    seen = Counter(replica for replica, _, _ in found)
    return [
        Target(
            name=name
            if seen[name] == 1 and adapter is None
            else f"{name} as {_as(upstream, adapter)}",
            backend=replica.backend,
            address=replica.address,
            model=upstream,
            adapter=adapter,
            translated=_translated(replica.backend),
            start_failure=failures.get(replica.backend_name, ""),
            adapter_fault="" if adapter is None else replica.adapter_faults.get(adapter, ""),
        )
        for (name, upstream, adapter), replica in found.items()
    ]


def _translated(backend: Backend) -> frozenset[Capability]:
    """What the gateway answers for it, although it has not got it."""
    missing = frozenset(CAPABILITY_OF.values()) - backend.capabilities
    return frozenset(one for one in missing if not lacks(backend, frozenset((one,))))


def _as(upstream: str, adapter: Adapter | None) -> str:
    return upstream if adapter is None else f"{upstream}:{adapter.name}"


def _progress(finding: Finding) -> None:
    detail = f": {finding.detail}" if finding.detail else ""
    _tell(f"{finding.target}: {finding.check}: {finding.outcome}{detail}")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

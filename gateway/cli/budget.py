"""`gateway budget MODEL`: what a load would take, on paper, before anybody is asked.

The arithmetic is that of the latency budget (`gateway.routing.latency`), with rates that are given
in place of learnt. A replica computes one prompt at a time, so prompts that come together wait for
each other; answers are generated together, each at `--decode` tokens a second.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from math import ceil, floor
from pathlib import Path

import msgspec

from backends.options import HttpOptions, LaunchableOptions
from gateway import config
from gateway.cli import which_file
from gateway.config.checks import model_index
from gateway.config.problems import did_you_mean
from gateway.config.structs import Config, LatencyBudget, Model

_WHAT_FOR = """\
Say how long answers of a model take under a load, and whether that keeps its `budget`.
Nobody is asked: it is arithmetic with the rates that you give."""

_WHENCE = """\
where rates come from: a benchmark of the engine (llama-bench calls them pp and tg), or, once the
model was served with a `budget`, gateway_replica_prefill_tokens_per_second and
gateway_replica_decode_tokens_per_second in /metrics. An engine decodes more slowly the more
answers it generates at a time: take --decode from a run with as many as --concurrency gives each.

example:
  gateway budget assistant --prompt 2000 --output 300 --concurrency 8 --prefill 3000 --decode 60

exit code: 0 where the budget is kept or there is none, 1 where it is not, 2 for mistakes"""

WRONG = 2
"""The exit code for a file with mistakes, or a model that is not in it."""
OVER = 1
"""The exit code for a load that the model's budget does not fit."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a model, and what it can do."""

    prompt: int
    """Tokens to be computed of each prompt."""
    output: int
    """Tokens of each answer."""
    concurrency: int
    """Requests at a time, on all replicas together."""
    prefill: float
    """Tokens of prompts that a replica computes in a second."""
    decode: float
    """Tokens a second in one answer, beside the others."""
    replicas: int

    @property
    def each(self) -> int:
        """Requests at a time on the replica that has most."""
        return ceil(self.concurrency / self.replicas)

    @property
    def prefill_time(self) -> float:
        """Seconds for one prompt."""
        return self.prompt / self.prefill

    @property
    def decode_time(self) -> float:
        """Seconds for one answer."""
        return self.output / self.decode

    def queue(self, ahead: float) -> float:
        """Seconds that a prompt waits behind others."""
        return ahead * self.prefill_time

    @property
    def rate(self) -> float:
        """Requests a second that all replicas get done."""
        together = self.queue((self.each - 1) / 2) + self.prefill_time + self.decode_time
        return self.replicas * min(1 / self.prefill_time, self.each / together)

    def most(self, seconds: float) -> int:
        """Requests at a time of which the last has its first token within `seconds`."""
        return self.replicas * max(0, floor(seconds / self.prefill_time + 1e-9))


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the ones `gateway` knows."""
    parser = subparsers.add_parser(
        "budget",
        help="say what a load on a model would take, on paper",
        description=_WHAT_FOR,
        epilog=_WHENCE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="as clients ask for it")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help=which_file.HELP)
    for name, kind, said in (
        ("prompt", _count, "tokens of a prompt, without those in a prompt cache"),
        ("output", _count, "tokens of an answer"),
        ("concurrency", _count, "requests at a time, on all replicas together"),
        ("prefill", _rate, "tokens of prompts that a replica computes in a second"),
        ("decode", _rate, "tokens a second in one answer, beside the others"),
    ):
        parser.add_argument(f"--{name}", type=kind, required=True, metavar="N", help=said)
    parser.add_argument("--replicas", type=_count, metavar="N", help="default: those in FILE")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the table, and whether it fits; the exit code."""
    file = which_file.chosen(args.file)
    try:
        checked = config.load(file, os.environ)
    except config.ConfigErrors as errors:
        print(errors, file=sys.stderr)
        return WRONG
    name = model_index(checked).find(args.model)
    if name is None or name not in checked.models:
        hint = did_you_mean(args.model, checked.models)
        print(f'{file}: no model is called "{args.model}"; {hint}', file=sys.stderr)
        return WRONG
    model = checked.models[name]
    replicas = args.replicas or replicas_of(model, checked)
    if replicas is None:
        print(f"replicas of {name} are discovered: say with --replicas how many", file=sys.stderr)
        return WRONG
    load = Load(
        prompt=args.prompt,
        output=args.output,
        concurrency=args.concurrency,
        prefill=args.prefill,
        decode=args.decode,
        replicas=replicas,
    )
    print(table(load))
    verdicts = list(judged(load, model.budget or LatencyBudget()))
    for said, _ in verdicts:
        print(said)
    if not verdicts:
        print(f"{name} has no `budget` that this could keep")
    if model.concurrency is not None and model.concurrency < load.concurrency:
        print(
            f"concurrency {model.concurrency}: no more are begun at a time; the others wait first"
        )
    return 0 if all(fits for _, fits in verdicts) else OVER


def replicas_of(model: Model, checked: Config) -> int | None:
    """How many replicas may answer for `model`; each backend counts once. None where some are
    discovered, so that only a running gateway knows."""
    count = 0
    for backend in {variant.backend for variant in model.arms().values()}:
        options = checked.backends[backend]
        if isinstance(options, LaunchableOptions) and options.launch is not None:
            count += options.count
        elif isinstance(options, HttpOptions):
            if options.discover is not None:
                return None
            count += len(options.urls)
        else:
            count += 1
    return count


def table(load: Load) -> str:
    """Seconds of each part: for one alone, on average, and for the last where all come at once."""
    queue = [load.queue(ahead) for ahead in (0, (load.each - 1) / 2, load.each - 1)]
    first = [wait + load.prefill_time for wait in queue]
    rows = {
        "queue": queue,
        f"prefill, {load.prompt} tokens": [load.prefill_time] * 3,
        "first token": first,
        f"decode, {load.output} tokens": [load.decode_time] * 3,
        "total": [wait + load.decode_time for wait in first],
    }
    width = max(map(len, rows))
    head = f"{'':{width}}  {'alone':>9}  {'average':>9}  {'last':>9}"
    lines = [
        f"{name:{width}}  " + "  ".join(f"{_seconds(one):>9}" for one in each)
        for name, each in rows.items()
    ]
    replicas = f"{load.replicas} replica{'' if load.replicas == 1 else 's'}"
    spread = (
        f"{load.concurrency} at a time on {replicas}: "
        f"{load.rate:.3g} requests/s, {load.rate * load.output:.0f} tokens/s"
    )
    return "\n".join([head, *lines, "", spread])


def judged(load: Load, budget: LatencyBudget) -> Iterator[tuple[str, bool]]:
    """What is to be said of each bound of `budget`, and whether the last request keeps it."""
    first = load.queue(load.each - 1) + load.prefill_time
    for name, bound, taken, other in (
        ("ttft", budget.ttft, first, 0.0),
        ("total", budget.total, first + load.decode_time, load.decode_time),
    ):
        if bound is None:
            continue
        most = load.most(bound - other)
        fits = taken <= bound
        kept = f"up to {most} at a time keep it" if most else "not even one alone keeps it"
        over = "kept" if fits else f"over by {_seconds(taken - bound)}"
        yield f"budget.{name} {_seconds(bound)}: {over}; {kept}", fits


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:12]) <= 10_000_000:
        raise argparse.ArgumentTypeError("expected a whole number from 1 to 10000000")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0.001 <= rate <= 1e9:
        raise argparse.ArgumentTypeError("expected tokens a second, above 0")
    return rate

"""`python -m bench`: arguments in, a table out. Exits with 1 where anything went wrong."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from bench.cases import CASES, Case, scaled
from bench.measure import Place, Round, measure
from bench.processes import Instructions, free_ports, running
from bench.profiling import profiled, tell_profile
from bench.report import Line, summarize, table
from bench.setups import KEY, Setup, routing_yaml

_GATEWAY = f"{sys.executable} -m gateway serve {{config}}"
_WARM_UP = 0.2
"""The load before the first round, as a share of a round's."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for and print it; the exit code."""
    options = _parser().parse_args(arguments)
    lines = asyncio.run(_bench(options))
    if options.json:
        print(msgspec.json.encode(lines).decode())
    else:
        print(table(lines))
    failed = [line for line in lines if line.errors]
    for line in failed:
        print(f"{line.case} {line.place}: {line.errors} errors: {line.error}", file=sys.stderr)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = [case.name for case in CASES]
    parser.add_argument("cases", nargs="*", choices=[*names, []], help="which; all by default")
    parser.add_argument("--setup", type=Setup, choices=list(Setup), default=Setup.FULL)
    parser.add_argument("--repeats", type=int, default=5, help="rounds of each case at each place")
    parser.add_argument("--scale", type=float, default=1.0, help="more or less load in a round")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--floor", action="store_true", help="measure a byte copier too")
    parser.add_argument("--instructions", action="store_true", help="count them, with perf")
    parser.add_argument("--profile", action="store_true", help="say where the gateway's time goes")
    parser.add_argument("--no-gateway", action="store_true", help="leave the gateway out")
    parser.add_argument(
        "--command", default=_GATEWAY, help="starts the gateway; {config} and {port} are put in"
    )
    return parser


async def _bench(options: argparse.Namespace) -> list[Line]:
    cases = [scaled(case, options.scale) for case in CASES]
    cases = [
        case for case in cases if case.name in (options.cases or [each.name for each in cases])
    ]
    if options.instructions and (why := await Instructions.why_not()):
        print(f"instructions are not counted: {why}", file=sys.stderr)
        options.instructions = False
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as directory:
        for case in cases:
            async with _places(options, Path(directory)) as places:
                lines += await _measure_case(case, places, options)
            if options.profile:
                tell_profile(Path(directory) / "profile", case, lines[-1].cpu_us.median)
    return lines


async def _measure_case(
    case: Case, places: Sequence[Place], options: argparse.Namespace
) -> list[Line]:
    """Rounds of one case, the places taking turns so that a busy machine is busy for both."""
    for place in places:
        await measure(scaled(case, _WARM_UP), place)
    rounds: dict[str, list[Round]] = {place.name: [] for place in places}
    for repeat in range(options.repeats):
        for place in places:
            print(f"{case.name} {repeat + 1}/{options.repeats} {place.name}", file=sys.stderr)
            rounds[place.name].append(await measure(case, place, instructions=options.instructions))
    return [summarize(case, each) for each in rounds.values()]


@asynccontextmanager
async def _places(options: argparse.Namespace, directory: Path) -> AsyncIterator[list[Place]]:
    """The engine, and what stands in front of it, all running."""
    one, other, gateway_port, floor_port = free_ports(4)
    python = [sys.executable, "-m"]
    async with AsyncExitStack() as stack:

        async def start(command: Sequence[str], port: int, name: str, path: str) -> int:
            process = running(command, port, output=directory / f"{name}.log", path=path)
            return await stack.enter_async_context(process)

        engine = await start([*python, "bench.upstream", str(one), str(other)], one, "engine", "/")

        def place(name: str, port: int, pid: int) -> Place:
            return Place(name=name, port=port, pid=pid, upstream_pid=engine, key=KEY)

        places = [place("direct", one, engine)]
        if options.floor:
            command = [*python, "bench.passthrough", str(floor_port), str(one)]
            places.append(
                place("floor", floor_port, await start(command, floor_port, "floor", "/"))
            )
        if not options.no_gateway:
            config = directory / "routing.yaml"
            config.write_text(routing_yaml(options.setup, gateway_port, (one, other)))
            command = shlex.split(options.command.format(config=config, port=gateway_port))
            if options.profile:
                command = profiled(command, directory / "profile")
            pid = await start(command, gateway_port, "gateway", "/ready")
            places.append(place(f"gateway {options.setup}", gateway_port, pid))
        yield places


if __name__ == "__main__":
    sys.exit(main())

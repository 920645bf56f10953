"""Build, list and find the real engines: `python -m tools.engines --help`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterable, Sequence
from types import FrameType

from tools.engines import ENGINES, Engine
from tools.engines.home import engines_root
from tools.engines.steps import StepError, Steps, clock

DESCRIPTION = """\
Build the real engines that tests run against, once per user and machine.

They go into the user's cache directory ($XDG_CACHE_HOME, or ~/.cache), each in a folder named
after its version, platform and recipe. A build that was interrupted goes on where it stopped
when it is run again; one that is there already takes no time.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    names = list(ENGINES)
    top = argparse.ArgumentParser(
        prog="python -m tools.engines",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="build what is missing")
    build.add_argument("engine", nargs="?", default="all", choices=[*names, "all"])
    commands.add_parser("status", help="say what is there and where; exit 1 if one is missing")
    path = commands.add_parser("path", help="print the path of an engine's executable")
    path.add_argument("engine", choices=names)
    return top


def build(engines: Iterable[Engine]) -> int:
    """Build each engine that can be built here, one after the other; 1 if one of them failed."""
    failed = False
    for engine in engines:
        steps = Steps(engine.name)
        if reason := engine.unsupported():
            steps.say(f"skipped: {reason}")
            continue
        try:
            steps.say(f"ready at {engine.ensure(steps)}")
        except StepError as failure:
            report(steps, failure)
            failed = True
    return int(failed)


def report(steps: Steps, failure: StepError) -> None:
    """Tell what went wrong, with the end of the output and where the rest is."""
    steps.say(f"FAILED {failure}")
    for line in failure.tail:
        print(f"  | {line}", file=sys.stderr)
    steps.say(f"the whole log: {failure.log}")
    if failure.hint:
        steps.say(f"hint: {failure.hint}")


def status() -> int:
    """List every engine; 1 if one that could be here is not."""
    missing = False
    print(f"in {engines_root()}")
    for engine in ENGINES.values():
        if reason := engine.unsupported():
            state = f"skipped: {reason}"
        elif binary := engine.find():
            took = engine.home().facts().get("seconds")
            built = f" (built in {clock(took)})" if isinstance(took, int) else ""
            state = f"{binary.relative_to(engines_root())}{built}"
        else:
            missing = True
            state = f"missing: python -m tools.engines build {engine.name}"
        print(f"{engine.name:17} {engine.version:9} {state}")
    return int(missing)


def path(engine: Engine) -> int:
    """Print where the executable is; 1 if it is not there."""
    if binary := engine.find():
        print(binary)
        return 0
    why = engine.unsupported() or f"not built: python -m tools.engines build {engine.name}"
    print(f"{engine.name}: {why}", file=sys.stderr)
    return 1


def terminate(_signal: int, _frame: FrameType | None) -> None:
    """Leave as an exception would, so that the command under way is ended too."""
    sys.exit(128 + signal.SIGTERM)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, terminate)
    try:
        match arguments.command:
            case "build" if arguments.engine == "all":
                return build(ENGINES.values())
            case "build":
                return build([ENGINES[arguments.engine]])
            case "path":
                return path(ENGINES[arguments.engine])
            case _:
                return status()
    except KeyboardInterrupt:
        print("\ninterrupted; run it again to go on", file=sys.stderr)
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())

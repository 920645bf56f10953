"""`python -m bench.balancing`: plays traces through the balancing policies.

Without a command it simulates, and exits with 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench.balancing import simulate, sweep
from bench.balancing.real import compare

_COMMANDS = {
    "simulate": (simulate, "every policy before simulated engines, with the targets"),
    "sweep": (sweep, "one parameter of prefix_affinity at a time"),
    "real": (compare, "the policies before real llama-servers"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked for; the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] != ["--help"] and not {*given[:1]} & _COMMANDS.keys():
        given = ["simulate", *given]
    options = _parser().parse_args(given)
    code: int = _COMMANDS[options.command][0].run(options)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.balancing", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    for name, (module, summary) in _COMMANDS.items():
        module.add_arguments(commands.add_parser(name, help=summary))
    return parser


if __name__ == "__main__":
    sys.exit(main())

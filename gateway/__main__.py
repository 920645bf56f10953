"""`gateway COMMAND`: one file per command in `gateway/cli/`, listed here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from gateway import __version__
from gateway.cli import budget, check, conform, plan, schema, serve

COMMANDS = (serve, check, plan, budget, conform, schema)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv`; the exit code."""
    parser = argparse.ArgumentParser(
        prog="gateway",
        description="One OpenAI-compatible base_url in front of the models you run yourself.",
    )
    parser.add_argument("--version", action="version", version=f"gateway {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(subparsers)
    args = parser.parse_args(argv)
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())

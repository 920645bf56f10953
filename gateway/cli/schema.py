"""`gateway schema`: the JSON Schema of routing.yaml, for editors."""

from __future__ import annotations

import argparse
import json

from gateway import config


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the ones `gateway` knows."""
    parser = subparsers.add_parser("schema", help="print the JSON Schema of routing.yaml")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:  # noqa: ARG001 - every command takes its arguments
    """Print the schema; the exit code."""
    print(json.dumps(config.schema(), indent=2))
    return 0

"""`gateway serve [FILE]`: run the gateway."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import sys
import time
from pathlib import Path

from backends.event_loop import loop_factory
from backends.garbage import calm_collector
from gateway import config
from gateway.cli import greeting, which_file
from gateway.cli.console import log_to_stderr
from gateway.config.checks import is_open_to_others
from gateway.config.structs import Config
from gateway.control.engines import StartError
from gateway.control.readiness import ReadinessReport

logger = logging.getLogger(__name__)

WRONG = 2
"""The exit code for a file with mistakes."""
FAILED = 1
"""The exit code where the gateway cannot start."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the ones `gateway` knows."""
    parser = subparsers.add_parser("serve", help="run the gateway")
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        metavar="FILE",
        help=which_file.HELP,
    )
    parser.add_argument("--host", help="listen here instead of `server.host`")
    parser.add_argument("--port", type=int, help="listen here instead of `server.port`")
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="how much is told on standard error (default: info)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until told to leave; the exit code."""
    log_to_stderr(args.log_level.upper())
    # uvicorn tells what the gateway tells in its own words.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    file = which_file.chosen(args.file)
    if args.file is None and file != which_file.HERE:
        logger.info("no %s here: serving the model that ships with the gateway", which_file.HERE)
    try:
        checked = config.load(file, os.environ)
    except config.ConfigErrors as errors:
        print(errors, file=sys.stderr)
        return WRONG
    server = checked.server
    host = server.host if args.host is None else args.host
    port = server.port if args.port is None else args.port
    if is_open_to_others(checked, host):
        print(
            f"--host {host} can be reached from other machines, and {file} has no "
            "keys: add `keys:`, or `server: {insecure: true}` if others guard the way here",
            file=sys.stderr,
        )
        return WRONG
    return _serve(file, checked, host, port)


def _serve(path: Path, checked: Config, host: str, port: int) -> int:
    # The web framework is half a second of imports: `gateway --help` does without.
    from gateway.app import Gateway  # noqa: PLC0415
    from gateway.server import ListenError, listen  # noqa: PLC0415

    try:
        bound = listen(host, port)
    except ListenError as error:
        print(error, file=sys.stderr)
        return FAILED

    started = time.monotonic()

    def announce(said: ReadinessReport) -> None:
        calm_collector()
        host, port = bound.getsockname()[:2]
        for line in greeting.ready(checked, host, port, time.monotonic() - started, said):
            logger.info(line)

    async def serve() -> None:
        await Gateway(path, checked, os.environ, host=host).run(bound, announce)

    if not checked.keys:
        logger.warning("no `keys` are set: whoever reaches this address may ask")

    with contextlib.closing(bound), asyncio.Runner(loop_factory=loop_factory()) as runner:
        try:
            runner.run(serve())
        except StartError as error:
            print(error, file=sys.stderr)
            return FAILED
    return 0

from __future__ import annotations

import io
import logging
import os
import pty
import subprocess
import sys

import pytest

from backends.inprocess import loading
from gateway.cli.console import TerminalHandler

SCRIPT = """
import logging
from backends.inprocess.loading import Loading
from gateway.cli.console import log_to_stderr

log_to_stderr("INFO")
now = 0.0
model = Loading("tale", lambda: now)
model.begin("/models/tale", 1 << 30, 2 << 30)
for step in range(1, 4):
    now = step / 4
    model.reached(step << 28, 1 << 30)
logging.getLogger("x").debug("not this")
logging.getLogger("x").info("tale: ready")
"""
SAID = "tale: loading, 768.0 MiB of 1.0 GiB (75 %) after 1 s"


@pytest.fixture
def shown():
    """A terminal, and what logs to it."""
    screen = io.StringIO()
    handler = TerminalHandler(screen)
    logger = logging.getLogger(loading.__name__)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield screen, logger
    logger.removeHandler(handler)
    logger.setLevel(before)


def test_each_step_takes_the_place_of_the_last_and_a_line_that_of_all(shown):
    screen, logger = shown
    logger.info("loading")
    logger.debug("1 of 3")
    logger.debug("2 of 3")
    logger.info("ready")
    logger.info("more")
    erase = "\r\x1b[2K"
    assert screen.getvalue() == f"loading\n1 of 3{erase}2 of 3{erase}ready\nmore\n"


def test_a_step_does_not_wrap(shown):
    screen, logger = shown
    logger.debug("x" * 200)
    assert screen.getvalue() == "x" * 79


def test_whoever_logs_to_a_terminal_that_is_gone_does_not_fail(shown, capsys):
    screen, logger = shown
    logger.debug("1 of 2")
    screen.close()
    logger.info("ready")
    logger.debug("2 of 2")
    assert "I/O operation on closed file" in capsys.readouterr().err


def run(stderr: int) -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], stderr=stderr, check=True, timeout=60)


@pytest.mark.slow
def test_a_terminal_shows_the_steps():
    ours, theirs = pty.openpty()
    try:
        run(theirs)
        said = os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert SAID in said
    assert said.endswith("tale: ready\r\n")
    assert "not this" not in said


@pytest.mark.slow
def test_a_file_has_lines_only(tmp_path):
    log = tmp_path / "log"
    with log.open("wb") as file:
        run(file.fileno())
    assert [line.partition("INFO")[2].strip() for line in log.read_text().splitlines()] == [
        "tale: loading /models/tale, 1.0 GiB (2.0 GiB with its caches)",
        "tale: ready",
    ]

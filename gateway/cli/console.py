"""What goes to standard error: warnings, and a log in which a terminal has one line rewritten.

How far the loading of a model is comes several times a second. A terminal shows it in its last
line, until something else is said; a file gets what is meant for it, now and then.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

from backends.inprocess.loading import Loading
from gateway.config import Problem

_FORMAT = "%(asctime)s %(levelname)-7s %(message)s"
_ERASE = "\r\x1b[2K"
"""To the start of the line, and nothing in it any more (ECMA-48)."""
_WIDTH = 80
"""Columns of a terminal that does not tell."""


def log_to_stderr(level: str) -> None:
    """Have everything of `level` and above on standard error, each line with its time."""
    terminal = sys.stderr.isatty()
    handler = TerminalHandler(sys.stderr) if terminal else logging.StreamHandler(sys.stderr)
    logging.basicConfig(level=level, format=_FORMAT, handlers=[handler])
    if terminal and level == "INFO":
        logging.getLogger(Loading.__module__).setLevel(logging.DEBUG)


def warn(odd: Problem) -> None:
    """Tell of what is odd in a file, and no mistake."""
    print(f"warning: {odd}", file=sys.stderr)


class TerminalHandler(logging.StreamHandler[TextIO]):
    """Shows the steps of a loading in one place: each in place of the last."""

    _passing = False
    """What stands in the last line is to be written over."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, in place of one that is passing."""
        passing = record.name == Loading.__module__ and record.levelno == logging.DEBUG
        try:
            if self._passing:
                self.stream.write(_ERASE)
            self._passing = passing
            if passing:
                # A line that wraps could not be erased.
                self.stream.write(record.getMessage()[: self._columns() - 1])
                self.flush()
        except Exception:  # logging's own way: whoever logs does not fail
            self.handleError(record)
        if not passing:
            super().emit(record)

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self.stream.fileno()).columns or _WIDTH
        except (OSError, ValueError):
            return _WIDTH

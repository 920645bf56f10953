"""Run the commands of a build: one line that says how far it is, and a log that has it all.

On a terminal the line is rewritten in place every second. Elsewhere, as in CI, a plain line
appears when a step starts and every half minute while it runs, so that nobody takes a long
compile for a hang and no log drowns in it.
"""

from __future__ import annotations

import os
import re
import selectors
import shlex
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, TextIO, cast

TICK_S = 1.0
PLAIN_EVERY_S = 30.0
TAIL_LINES = 30

_NINJA = re.compile(r"^\[(\d+/\d+)\]")
_PIP = re.compile(r"^\s*(Collecting|Downloading|Processing|Building|Installing)\b\s*([^\s,;]*)")


class StepError(Exception):
    """A command of a build failed.

    `what` is the step, `hint` what a person may do about it, `tail` the end of its output.
    """

    def __init__(self, what: str, reason: str, log: Path, tail: Sequence[str], hint: str = ""):
        super().__init__(f"{what}: {reason}")
        self.log = log
        self.tail = tuple(tail)
        self.hint = hint


def progress_in(line: str) -> str | None:
    """The few words of a line of output that tell how far a build is, if it has any."""
    if found := _NINJA.match(line):
        return f"[{found[1]}]"
    if found := _PIP.match(line):
        # pip names files by their whole path; the last part says enough.
        subject = found[2].rstrip("/").rpartition("/")[2]
        return " ".join(("pip:", found[1].lower(), subject)).rstrip()
    return None


def clock(seconds: float) -> str:
    """Elapsed time the way people read it: `0:07`, `12:30`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"


class Steps:
    """The steps of one engine's build, shown on `stream` and logged to a file."""

    def __init__(self, engine: str, stream: TextIO | None = None):
        self._engine = engine
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._log: BinaryIO | None = None
        self._log_path = Path(os.devnull)

    @contextmanager
    def logged_to(self, path: Path) -> Iterator[None]:
        """Append the output of every step to `path` meanwhile."""
        with path.open("ab") as log:
            self._log, self._log_path = log, path
            try:
                yield
            finally:
                self._log = None

    def say(self, text: str) -> None:
        """Print a line that stays."""
        start = "\r\x1b[2K" if self._live else ""
        print(f"{start}{self._engine}: {text}", file=self._stream, flush=True)

    def run(
        self,
        what: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        hint: str = "",
    ) -> None:
        """Run one command to its end; `env` is added to the environment.

        Raises StepError, carrying `hint`, when it cannot start or exits with a failure.
        """
        started = time.monotonic()
        self._write_log(f"\n$ {shlex.join(map(str, argv))}\n".encode())
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        if not self._live:
            self.say(what)
        try:
            # A group of its own would outlive Ctrl-C; sharing ours, the child hears it too.
            child = subprocess.Popen(
                [str(part) for part in argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
            )
        except OSError as error:
            raise StepError(what, str(error), self._log_path, (), hint) from error
        try:
            with cast("IO[bytes]", child.stdout) as output:
                self._follow(output, what, started, tail)
            code = child.wait()
        except BaseException:
            child.terminate()
            child.wait()
            raise
        if code != 0:
            raise StepError(what, f"exit status {code}", self._log_path, tail, hint)
        self.say(f"{what}: done in {clock(time.monotonic() - started)}")

    def _follow(self, output: IO[bytes], what: str, started: float, tail: deque[str]) -> None:
        """Log what a command prints until it is done with it, showing progress meanwhile."""
        detail, partial, shown = "", b"", started
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while True:
                if selector.select(timeout=TICK_S):
                    block = os.read(output.fileno(), 65536)
                    if not block:
                        tail.extend(filter(None, [partial.decode(errors="replace")]))
                        return
                    self._write_log(block)
                    *lines, partial = (partial + block).split(b"\n")
                    for raw in lines:
                        line = raw.decode(errors="replace").rstrip()
                        tail.append(line)
                        detail = progress_in(line) or detail
                shown = self._show(f"{what} {detail}".rstrip(), started, shown)

    def _show(self, text: str, started: float, shown: float) -> float:
        """Show progress if it is time to; returns when it was last shown."""
        now = time.monotonic()
        if self._live:
            line = f"{self._engine}: {text}  {clock(now - started)}"
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[2K{line[:width]}")
            self._stream.flush()
            return now
        if now - shown < PLAIN_EVERY_S:
            return shown
        self.say(f"{text}  {clock(now - started)}")
        return now

    def _write_log(self, block: bytes) -> None:
        if self._log is not None:
            self._log.write(block)
            self._log.flush()

"""Child processes of a test run: each with its output kept in a file, none left behind.

A child is ended by its own pid and, where it has children of its own, by its process group. It
is tied to the life of the test run, so that a killed pytest leaves no engine running.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

_TETHER = Path(__file__).with_name("tether.py")
_STOP_TIME = 5.0
"""Seconds a child gets to obey SIGTERM."""


def wait_until(condition: Callable[[], object], timeout: float, what: str) -> None:
    """Look again and again until `condition` holds. Raises `TimeoutError` that says `what`."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(0.02)


class Child:
    """One running command. Whoever starts it must `stop` it."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """`folder` takes its output."""
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.out = folder / f"{name}.out"
        self.err = folder / f"{name}.err"
        tether = [sys.executable, "-S", "-E", str(_TETHER)]
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self._process = subprocess.Popen(
                [*tether, *map(str, argv)],
                env=dict(os.environ if env is None else env),
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def log(self) -> str:
        """What it has said on standard error so far."""
        return self.err.read_text("utf-8", "replace")

    def tail(self, lines: int = 40) -> str:
        """The end of both outputs, to be shown with a failure."""
        said = self.out.read_text("utf-8", "replace").splitlines()[-lines:]
        return "\n".join([*said, *self.log().splitlines()[-lines:]])

    def cpu_seconds(self) -> float:
        """What it has used of the CPU so far; Linux only, and in steps of a hundredth."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def send(self, sig: signal.Signals) -> None:
        """Send a signal to this one process."""
        self._process.send_signal(sig)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.wait(_STOP_TIME)

    def wait(self, timeout: float) -> int:
        """The exit code. Raises `TimeoutError` with the log where it goes on running."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(
                f"{self.name} still runs after {timeout:g} s:\n{self.tail()}"
            ) from None

    def wait_for(self, condition: Callable[[], object], timeout: float, what: str) -> None:
        """Wait for `condition`, but no longer than the child lives; failures show its log."""

        def holds() -> object:
            return condition() or self.exit_code is not None

        try:
            wait_until(holds, timeout, f"{self.name}: {what}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.tail()}") from None
        if self.exit_code is not None and not condition():
            raise RuntimeError(f"{self.name} ended with {self.exit_code}:\n{self.tail()}")

    def stop(self) -> None:
        """End it and whatever it has started. Idempotent."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_TIME)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(_STOP_TIME)
        assert self._process.stdin is not None
        self._process.stdin.close()


class Children:
    """The owner of all children of a test run."""

    def __init__(self) -> None:
        self._children: list[Child] = []

    def add(self, child: Child) -> None:
        """Take a child over."""
        self._children.append(child)

    def __iter__(self) -> Iterator[Child]:
        """Those that have not been stopped."""
        return iter(tuple(self._children))

    def discard(self, child: Child) -> None:
        """Stop a child and forget it."""
        child.stop()
        self._children.remove(child)

    def stop(self) -> None:
        """Stop all, the last one first."""
        while self._children:
            self.discard(self._children[-1])

"""Where the sockets of engines are, and what a gateway that was killed has left behind.

Children end with the gateway (`backends/tether.py`). This is for the case beyond that, where both
were killed, on a system without a death signal: each engine is noted, and the next gateway that
starts ends those of a gateway that is no more. Whether it is, a lock tells, which its death gives
back: a process's number may be another one's by now, or mean nothing in this container.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

_PREFIX = "llm-gateway-"
_LOCK = "lock"
_NOTE = ".pid"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PS_TIME = 5.0
_LONGEST_PARENT = 64
"""Bytes: the path of a Unix socket has 104 on macOS, 108 on Linux."""


class RunFolder:
    """One backend's. Whoever makes it must `close` it."""

    def __init__(self, parent: Path | None = None) -> None:
        """`parent` is the system's folder for what does not last, by default."""
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent or _temporary()))
        # Locked before it has its name, so that nobody finds it unlocked.
        draft = self.path / "draft"
        self._lock = os.open(draft, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        draft.rename(self.path / _LOCK)

    def note(self, pid: int) -> None:
        """Remember an engine, the leader of its group, that runs."""
        with contextlib.suppress(OSError):
            (self.path / f"{pid}{_NOTE}").write_text(identity(pid), encoding="utf-8")

    def forget(self, pid: int) -> None:
        """It is gone."""
        with contextlib.suppress(OSError):
            (self.path / f"{pid}{_NOTE}").unlink()

    def close(self) -> None:
        """Remove it. Idempotent."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def reap(parent: Path | None = None) -> list[int]:
    """End what gateways of this user that are no more have left; the engines that were killed."""
    reaped: list[int] = []
    for folder in (parent or _temporary()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid != os.getuid():
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                reaped += _kill_noted(folder)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
    for pid in reaped:
        logger.warning("killed the engine with pid %d, left by a gateway that was killed", pid)
    return reaped


def _temporary() -> Path:
    """The system's folder for what does not last, unless no socket could be bound in it."""
    folder = tempfile.gettempdir()
    return Path(folder if len(os.fsencode(folder)) <= _LONGEST_PARENT else "/tmp")  # noqa: S108


def identity(pid: int) -> str:
    """When a process began, and its group: what tells it from a later one of the same number.

    Both stay the same when it becomes the engine (exec), which it may not have done yet when it is
    noted. Empty where there is no such process. Blocks.
    """
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            # It counts from the boot, and this folder may outlive one.
            return f"{_BOOT.read_text().strip()} {fields[19]} {fields[2]}"
        except OSError:
            return ""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(  # noqa: S603 — nothing of a stranger's is in it
            ["ps", "-o", "lstart=", "-o", "pgid=", "-p", str(pid)],  # noqa: S607 — the system's own
            env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
            capture_output=True,
            text=True,
            timeout=_PS_TIME,
            check=False,
        )
        return done.stdout
    return ""


def _kill_noted(folder: Path) -> Iterator[int]:
    for note in folder.glob(f"*{_NOTE}"):
        pid = int(note.stem) if note.stem.isdigit() else 0
        known = note.read_text(encoding="utf-8")
        if pid > 1 and known and identity(pid) == known:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
                yield pid

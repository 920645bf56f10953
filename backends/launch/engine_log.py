"""What an engine says: all of it in a file of bounded size, and a bounded part in our own log."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

FILE_SIZE = 8 << 20
"""Bytes of one file; there are up to three older ones beside it."""
_OLDER_FILES = 3
_LINES_PER_SECOND = 20.0
_BURST = 200.0


def state_folder(env: Mapping[str, str]) -> Path:
    """Where files of the gateway's own belong: systemd's place, or the user's (XDG)."""
    for name, below in (
        ("STATE_DIRECTORY", ""),
        ("XDG_STATE_HOME", "llm-gateway"),
        ("HOME", ".local/state/llm-gateway"),
    ):
        if env.get(name, "").startswith("/"):
            return Path(env[name].partition(":")[0]) / below
    return Path("/var/tmp") / f"llm-gateway-{os.getuid()}"  # noqa: S108 — its mode is 0700


def log_file(replica: str, env: Mapping[str, str]) -> Path:
    """Where the log of `replica` is."""
    return state_folder(env) / "logs" / f"{replica}.log"


class EngineLog:
    """The sink for the lines of one replica's engines, one after the other. Used by one thread
    at a time, that of the child's output."""

    def __init__(
        self,
        replica: str,
        file: Path,
        secrets: Sequence[str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`secrets` are texts that are masked wherever they stand."""
        self._replica = replica
        self.file = file
        self._secrets = secrets
        self._clock = clock
        self._tokens, self._filled_at = _BURST, clock()
        self._passed_over = 0
        self._kept = BoundedFile(file)
        self._second, self._stamp = 0, ""

    def __call__(self, line: str) -> None:
        """Take one line."""
        for secret in self._secrets:
            line = line.replace(secret, "***")
        self._kept.write(f"{self._now()} {line}")
        if not self._may_pass():
            self._passed_over += 1
            return
        if self._passed_over:
            logger.info("%s: %d lines are in %s only", self._replica, self._passed_over, self.file)
            self._passed_over = 0
        logger.info("%s: %s", self._replica, line)

    def close(self) -> None:
        """Close the file."""
        self._kept.close()

    def _now(self) -> str:
        """The time of day, for people; made once a second."""
        second = int(time.time())
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%S%z")
        return self._stamp

    def _may_pass(self) -> bool:
        now = self._clock()
        self._tokens = min(_BURST, self._tokens + (now - self._filled_at) * _LINES_PER_SECOND)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class BoundedFile:
    """A file that lines are added to; when it is full it becomes `NAME.1`, and so on to `NAME.3`.

    A disk that is full, or not ours, costs lines and nothing else.
    """

    def __init__(self, path: Path, size: int = FILE_SIZE) -> None:
        """`size` in bytes, of one file."""
        self._path = path
        self._most = size
        self._file: int | None = None
        self._size = 0
        self._open()

    def write(self, line: str) -> None:
        """Add a line."""
        if self._file is None:
            return
        data = line.encode("utf-8", "replace") + b"\n"
        if self._size + len(data) > self._most:
            self._rotate()
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._size += os.write(self._file, data)

    def close(self) -> None:
        """Close it; what is written after that is lost."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _rotate(self) -> None:
        self.close()
        for number in range(_OLDER_FILES - 1, -1, -1):
            older = self._numbered(number)
            with contextlib.suppress(OSError):
                older.replace(self._numbered(number + 1))
        self._open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._file = os.open(self._path, flags, 0o600)
            self._size = os.fstat(self._file).st_size
        except OSError as error:
            logger.warning("no log of the engine is kept: %s: %s", self._path, error.strerror)

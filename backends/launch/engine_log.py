"""What an engine says: all of it in a file of bounded size, and a bounded part in our own log."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

FILE_SIZE = 8 << 20
"""Bytes of one file; there are up to three older ones beside it."""
_OLDER_FILES = 3
_LINES_PER_SECOND = 20.0
_BURST = 200.0
"""Lines at once, after a calm time: a start, or the trace of an error."""
_HUSH = 1.0
"""Seconds without a line after a burst: then it is told how many there were."""


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
    at a time, that of the child's output; any may close it."""

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
        self._hushed_until = 0.0
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
        self._tell_passed_over()
        logger.info("%s: %s", self._replica, line)

    def _tell_passed_over(self) -> None:
        if self._passed_over:
            logger.info("%s: %d lines are in %s only", self._replica, self._passed_over, self.file)
            self._passed_over = 0

    def close(self) -> None:
        """Close the file."""
        self._tell_passed_over()
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
        if now < self._hushed_until:
            return False
        if self._tokens < 1:
            self._hushed_until = now + _HUSH
            return False
        self._tokens -= 1
        return True


class BoundedFile:
    """A file that lines are added to; when it is full it becomes `NAME.1`, and so on to `NAME.3`.

    Threads may share one, and several may be of one path: a reload has the old engine and the new
    one of a name run side by side. A disk that is full, or not ours, costs lines and nothing else.
    """

    def __init__(self, path: Path, size: int = FILE_SIZE) -> None:
        """`size` in bytes, of one file."""
        self._path = path
        self._most = size
        self._file: int | None = None
        self._busy = threading.Lock()
        self._open()

    def write(self, line: str) -> None:
        """Add a line."""
        data = line.encode("utf-8", "replace") + b"\n"
        with self._busy, contextlib.suppress(OSError):
            if self._file is not None and os.fstat(self._file).st_size + len(data) > self._most:
                self._rotate(self._file)
            if self._file is not None:
                os.write(self._file, data)

    def close(self) -> None:
        """Close it; what is written after that is lost."""
        with self._busy:
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _rotate(self, full: int) -> None:
        try:
            fcntl.flock(full, fcntl.LOCK_EX)  # `_close` gives it back
            if _is_at(full, self._path):  # else another one of this path has done it
                for number in range(_OLDER_FILES - 1, -1, -1):
                    older = self._numbered(number)
                    with contextlib.suppress(OSError):
                        older.replace(self._numbered(number + 1))
        finally:
            self._close()
        self._open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path

    def _open(self) -> None:
        try:
            _make_own(self._path.parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
            self._file = os.open(self._path, flags, 0o600)
        except OSError as error:
            logger.warning("no log of the engine is kept: %s: %s", self._path, error.strerror)


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.lstat())
    except OSError:
        return False


def _make_own(folder: Path) -> None:
    """Have `folder` to ourselves; whatever is missing on the way to it is made with 0700.

    Raises `OSError` where somebody else has put it there, or a link to another place, or may put
    something into it. What it is in may be a volume that others write to as well.
    """
    for level in [*reversed(folder.parents), folder]:
        with contextlib.suppress(FileExistsError):
            if not level.exists():
                level.mkdir(mode=0o700)
    place = folder.stat()
    links = {level.lstat().st_uid for level in (folder.parent, folder)}
    if place.st_uid != os.getuid() or not links <= {0, os.getuid()}:
        raise PermissionError(errno.EPERM, "the folder belongs to another user")
    if place.st_mode & 0o022:
        raise PermissionError(errno.EPERM, "others may write to the folder")

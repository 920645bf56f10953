"""Processes: started on loopback, measured from outside, ended by their own id."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_STARTING = 60.0
_STOPPING = 20.0


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def cpu_seconds(pid: int, *, children: bool = False) -> float:
    """CPU that a process has used so far, user and system, all threads (proc(5), `stat`).

    With `children`, also that of all processes below it that are running.
    """
    own = _used(Path(f"/proc/{pid}/stat"))
    if not children:
        return own
    below = [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return own + sum(cpu_seconds(child, children=True) for child in below)


def main_thread_cpu_seconds(pid: int) -> float:
    """The same of its main thread alone."""
    return _used(Path(f"/proc/{pid}/task/{pid}/stat"))


def _used(stat: Path) -> float:
    # The second field is the command in parentheses, and may hold spaces.
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def rss_mb(pid: int) -> float:
    """Resident memory of a process, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@asynccontextmanager
async def running(
    command: Sequence[str], port: int, *, output: Path, path: str = "/ready"
) -> AsyncIterator[int]:
    """The id of a process that answers 200 at `path`; ended afterwards. Output goes to a file."""
    with output.open("ab") as file:
        process = await asyncio.create_subprocess_exec(*command, stdout=file, stderr=file)
    try:
        await _answering(process, port, path, output)
        yield process.pid
    finally:
        await _end(process)


async def _answering(
    process: asyncio.subprocess.Process, port: int, path: str, output: Path
) -> None:
    deadline = asyncio.get_running_loop().time() + _STARTING
    while not await _answers(port, path):
        if process.returncode is not None:
            raise RuntimeError(f"it ended with {process.returncode}: {_last_words(output)}")
        if asyncio.get_running_loop().time() > deadline:
            raise RuntimeError(f"it is not ready after {_STARTING} s: {_last_words(output)}")
        await asyncio.sleep(0.05)


def _last_words(output: Path) -> str:
    return output.read_text(errors="replace")[-2000:]


async def _answers(port: int, path: str) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
    try:
        async with asyncio.timeout(2):
            line = await reader.readline()
    except (OSError, TimeoutError):
        return False
    finally:
        writer.close()
    return b" 200 " in line


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_STOPPING):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


class Instructions:
    """Counts the user-space instructions of a process with `perf stat`, where that works."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._process: asyncio.subprocess.Process | None = None

    @staticmethod
    async def why_not() -> str:
        """Why they cannot be counted here; empty where they can."""
        if shutil.which("perf") is None:
            return "there is no `perf`"
        said = await _perf("--", "true")
        if re.search(rb"^\d+,", said, re.MULTILINE):
            return ""
        return "`perf stat -e instructions:u` is not supported by this machine"

    async def start(self) -> None:
        """Begin to count."""
        self._process = await asyncio.create_subprocess_exec(
            *_PERF, "-p", str(self._pid), stderr=asyncio.subprocess.PIPE
        )
        await asyncio.sleep(0.2)  # until it is attached; nothing runs meanwhile

    async def stop(self) -> int:
        """How many there were since the start."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        _, said = await self._process.communicate()
        found = re.search(rb"^(\d+),", said, re.MULTILINE)
        return int(found[1]) if found else 0


_PERF = ("perf", "stat", "-x", ",", "-e", "instructions:u")


async def _perf(*arguments: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *_PERF,
        *arguments,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    return (await process.communicate())[1]

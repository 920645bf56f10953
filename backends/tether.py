"""Run a command that never outlives whoever holds the other end of standard input.

`tether.py COMMAND…` runs COMMAND as its child, in a process group of its own, and speaks over the
socket on standard input: `pid N` once the command runs, `exit STATUS` (as of wait(2)) when it has
ended. When the far end closes that socket, or dies however suddenly, everything is killed: the
command, its group, and on Linux whatever else it has left behind, because this process is made the
reaper of all its descendants. SIGTERM is handed on to the command.

A death signal set by the gateway itself (PR_SET_PDEATHSIG) would hang on the thread that forked,
and would leave grandchildren alone; here it is set between this process and the command, so that
killing this one ends the command too.

In a file of its own and free of imports from this project: it starts in 20 ms, and stays small.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LINUX = sys.platform == "linux"
_FAR_END = 0
"""Standard input: the socket that ties this process to the one that started it."""
_CANNOT_RUN = 127
_LOOK_AGAIN = 0.005
"""Seconds between two looks at what is still to be killed."""


def main(command: list[str]) -> None:
    """Never returns: ends as the command has ended."""
    if _LINUX:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    child = _start(command)
    signal.signal(signal.SIGTERM, lambda *_: _signal(child, signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    _tell(f"pid {child}")
    status = _wait(child, woken)
    if status is not None:
        _tell(f"exit {status}")
    _kill_all(child)
    _end_as(status)


def _start(command: list[str]) -> int:
    myself = os.getpid()
    child = os.fork()
    if child:
        with contextlib.suppress(OSError):  # the child has done it, or has gone on to run
            os.setpgid(child, child)
        return child
    try:
        os.setpgid(0, 0)
        if _LINUX:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != myself:
                os._exit(_CANNOT_RUN)
        # Python ignores some, nohup and shells others; a command expects the defaults.
        for sig in signal.valid_signals():
            if signal.getsignal(sig) is signal.SIG_IGN:
                signal.signal(sig, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.execvp(command[0], command)  # noqa: S606 — the operator's own command
    except OSError as error:
        os.write(2, f"cannot run {command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(_CANNOT_RUN)


def _wait(child: int, woken: int) -> int | None:
    """Until the command has ended, and how; None where the far end is gone before."""
    while True:
        ready, _, _ = select.select([_FAR_END, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
        while True:  # as a reaper of descendants there may be others to bury
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return None
            if pid == child:
                return status
            if pid == 0:
                break
        if _FAR_END in ready and not _says_something():
            return None


def _says_something() -> bool:
    try:
        return bool(os.read(_FAR_END, 4096))
    except OSError:
        return False


def _kill_all(child: int) -> None:
    """Kill the command's group, then every descendant that has left it, until there is none."""
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)
    while True:
        for pid in _children():
            _signal(pid, signal.SIGKILL)
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(_LOOK_AGAIN)  # a child may have come after the list was made
        except ChildProcessError:
            return


def _children() -> list[int]:
    """The processes that this one is the parent of; those of the dead come to it on Linux."""
    if not _LINUX:
        return []
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as listed:
            return [int(pid) for pid in listed.read().split()]
    except OSError:  # a kernel without it: the group is gone, which is nearly everything
        return []


def _signal(pid: int, sig: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, sig)


def _tell(line: str) -> None:
    with contextlib.suppress(OSError):
        os.write(_FAR_END, line.encode() + b"\n")


def _end_as(status: int | None) -> None:
    code = 1 if status is None else os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


if __name__ == "__main__":
    main(sys.argv[1:])

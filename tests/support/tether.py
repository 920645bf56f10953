"""Run a command that does not outlive whoever holds the other end of standard input.

`tether.py COMMAND…` forks a guardian and becomes the command, in one process group. When the
pipe on standard input breaks, because the test run has died however suddenly, the guardian kills
the group: also what the command has started, which a death signal to the command alone (Linux's
PR_SET_PDEATHSIG) would leave behind.

In a file of its own, and free of imports from this project, because it becomes the command.
"""

import os
import signal
import sys


def guard() -> None:
    """Wait for the pipe to break, then kill the group, this process included."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGKILL)


def main(command: list[str]) -> None:
    """Never returns. The caller has made this process the leader of a group of its own."""
    if os.fork() == 0:
        guard()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.execvp(command[0], command)


main(sys.argv[1:])

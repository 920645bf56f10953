"""Run a command that does not outlive this process's parent: `tether.py PARENT SIGNAL COMMAND…`.

Linux alone can promise that (prctl(2), PR_SET_PDEATHSIG); elsewhere the command simply runs. In
a file of its own, and free of imports from this project, because it becomes the command.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, signal: int, command: list[str]) -> None:
    """Tie this process to `parent`, then become `command`. Never returns."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0)
        if os.getppid() != parent:  # it died before we were tied to it
            sys.exit(1)
    os.execvp(command[0], command)


main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])

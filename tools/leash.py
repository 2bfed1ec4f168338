"""Starts a program that dies with its parent: ``python leash.py <parent pid> <program> …``.

Run as a file of its own and with the standard library only, because it stands between the
supervisor and every process. Where the kernel knows no such thing (macOS), the program just starts,
and the next start of the stack cleans up.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become the program."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the leash was on
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606  # a list of arguments, no shell


if __name__ == "__main__":
    main()

"""Runs a command as a child that does not outlive its parent: `python -m signspool.child PARENT COMMAND...`.

When the parent is killed the kernel sends this process SIGTERM, so that it ends what is in hand and stops.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from shared import hangup

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then run the command."""
    hangup.hold()
    parent, *arguments = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # It may have died before we asked.
    if os.getppid() != int(parent):
        sys.exit("signspool: the command that started this is gone")
    from signspool.cli import run  # noqa: PLC0415  (takes a second)

    sys.exit(run(arguments))


if __name__ == "__main__":
    main()

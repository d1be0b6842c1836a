"""A process that does not outlive the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with(parent_pid: int) -> None:
    """Have the kernel send this process SIGTERM when its parent dies: it ends what is in hand and stops.

    To be called early; another kind of system than Linux knows nothing of it, and nothing happens there.

    Raises:
        SystemExit: the parent is gone already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # It may have died before we asked.
    if os.getppid() != parent_pid:
        sys.exit("signspool: the process that started this one is gone")

"""SIGHUP that comes before anybody listens to it: the kernel keeps it until then."""

from __future__ import annotations

import signal


def hold() -> None:
    """From now on SIGHUP waits instead of ending this process, or one that it starts.

    For the thread that calls and those that it starts; to be called before there are others.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def release() -> None:
    """Let SIGHUP in: whoever handles it now gets what waited, and what comes."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def take() -> bool:
    """Whether SIGHUP has come since the last call, for whoever holds it and looks from time to time."""
    return signal.sigtimedwait({signal.SIGHUP}, 0) is not None

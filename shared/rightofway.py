"""Two threads, one interpreter: how the one that brings files to disk gets through its short system calls."""

from __future__ import annotations

import threading

PATIENCE_SECONDS = 0.005
"""Longest wait of the loop for one burst; on a disk that is well, a hundred files take no longer."""


class RightOfWay:
    """The writer's bursts of short system calls, which go before the loop's next step.

    After each system call a thread needs the interpreter again, and while the loop is busy it gets that only
    by chance: making a file then takes ten times as long as alone, and the disk waits meanwhile. So the
    writer enters a `with` block for the burst, and the loop stands aside between two of its steps. A disk may
    hang in the middle of a burst, so the loop does that once for each, and not for long.
    """

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._burst = threading.Lock()
        self.is_given_up = False
        """Whether the present burst has taken too long to be waited for."""

    def __enter__(self) -> None:
        self._burst.acquire()

    def __exit__(self, *_error: object) -> None:
        self.is_given_up = False
        self._burst.release()

    def give(self) -> None:
        """Wait for the end of the burst, if there is one, unless it takes long; never raises."""
        if self._burst.locked() and not self.is_given_up:
            if self._burst.acquire(timeout=self._patience_seconds):
                self._burst.release()
            else:
                self.is_given_up = True

"""How long a database is waited for."""

from __future__ import annotations

import threading


class Patience:
    """How long a server may be silent in the middle of a call, in seconds; None is for ever.

    Once `end` was called nobody waits any more, and no new call begins. Safe to use from several threads.
    """

    def __init__(self, silence_seconds: float | None) -> None:
        self.silence_seconds = silence_seconds
        self._ended = threading.Event()

    def end(self) -> None:
        """Nobody waits any more."""
        self._ended.set()

    @property
    def has_ended(self) -> bool:
        """Whether nobody waits any more."""
        return self._ended.is_set()

    def is_over(self, silent_seconds: float) -> bool:
        """Whether a call that has heard nothing for so long is to be given up."""
        return self.has_ended or (self.silence_seconds is not None and silent_seconds > self.silence_seconds)

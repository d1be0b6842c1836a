"""The circuit breaker of a lane: a peer that keeps failing is left alone for a while."""

from __future__ import annotations

from collections.abc import Callable

_LONGEST_PAUSE_FACTOR = 4.0


class Breaker:
    """Counts failures in a row; opens at a limit, then lets one trial through after each pause.

    Every failed trial doubles the pause, up to four times the first. One success closes it. Times are in the
    seconds of `monotonic`.
    """

    def __init__(self, *, failures: int, pause_seconds: float, monotonic: Callable[[], float]) -> None:
        self._limit = failures
        self._first_pause_seconds = pause_seconds
        self._monotonic = monotonic
        self._failures = 0
        self._pause_seconds = pause_seconds
        self._open_until = 0.0
        self._trial = False

    @property
    def is_open(self) -> bool:
        """Whether the peer counts as broken."""
        return self._failures >= self._limit

    def allowance(self, wanted: int) -> int:
        """How many attempts may begin now: all, none, or the one trial."""
        if not self.is_open:
            return wanted
        if self._trial or self._monotonic() < self._open_until:
            return 0
        return min(wanted, 1)

    def begin(self) -> None:
        """An attempt begins; on an open breaker it is the trial."""
        self._trial = self.is_open

    def succeeded(self) -> bool:
        """The peer works; tells whether that closed the breaker."""
        was_open = self.is_open
        self._failures = 0
        self._trial = False
        self._pause_seconds = self._first_pause_seconds
        return was_open

    def failed(self, asked_seconds: float = 0.0) -> bool:
        """The peer failed; tells whether that opened the breaker.

        `asked_seconds` is the time that the peer asked to be left alone: an open breaker pauses no shorter.
        """
        was_open = self.is_open
        self._failures += 1
        if self._trial:
            self._pause_seconds = min(
                self._pause_seconds * 2, self._first_pause_seconds * _LONGEST_PAUSE_FACTOR
            )
        self._trial = False
        if self.is_open:
            pause_seconds = max(self._pause_seconds, asked_seconds)
            self._open_until = max(self._open_until, self._monotonic() + pause_seconds)
        return self.is_open and not was_open

    def abandoned(self) -> None:
        """The attempt said nothing about the peer; a trial may be made again."""
        self._trial = False

"""Whether our own means are there: says once that they are gone, and once that they are back."""

from __future__ import annotations

import threading

import structlog

from shared.errors import UnavailableError

log = structlog.get_logger()


class Means:
    """Gathers what every part of the daemon finds of spool and database.

    One outage hits many parts, each at its own time, and some not at all: a full disk still lets those work
    that only read. So the means are back when the last part that missed them has found them again. Safe to
    use from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._missed_by: set[str] = set()

    @property
    def are_there(self) -> bool:
        """Whether no part of the daemon misses them."""
        return not self._missed_by

    def missed(self, part: str, error: UnavailableError, *, alarm: bool = False) -> None:
        """A part of the daemon could not work for lack of our own means; an alarm is said each time."""
        with self._lock:
            first = not self._missed_by
            self._missed_by.add(part)
        if first or alarm:
            log.error("processor.unavailable", error=str(error))

    def found(self, part: str) -> None:
        """A part of the daemon could work."""
        with self._lock:
            last = self._missed_by == {part}
            self._missed_by.discard(part)
        if last:
            log.info("processor.available")

"""What is done once a day, off the way of callbacks: lists of digests, then retention."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import date

from processor.alone import alone
from processor.daylists import DayLists
from processor.history import History
from processor.retention import Retention
from shared.spool import Spool

LOCK = ".housekeeping.lock"
"""Held while one keeps house: the daemon, or a command beside it."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What one pass did; `is_whole` is false when it ended early, or somebody else was at it."""

    listed: list[str] = field(default_factory=list)
    days: int = 0
    documents: int = 0
    is_whole: bool = False


class Housekeeping:
    """Keeps one spool, and the history in the database, in bounds."""

    def __init__(self, spool: Spool, lists: DayLists, retention: Retention, history: History) -> None:
        self._spool = spool
        self._lists = lists
        self._retention = retention
        self.history = history
        self._done_on: date | None = None

    def work(self, stop: threading.Event) -> Kept:
        """Do what is due, once a day or until told to stop; the next call goes on where this one ended.

        Raises:
            UnavailableError: spool or database are away.
        """
        today = self._spool.clock.today()
        if self._done_on == today:
            return Kept(is_whole=True)
        with alone(self._spool.root / LOCK) as is_ours:
            if not is_ours:
                return Kept()
            listed = self._lists.make(stop)
            days = documents = 0
            try:
                # What is not listed yet must not go.
                days = 0 if stop.is_set() else self._retention.drop(stop)
            finally:
                # A folder that cannot be deleted is no reason to keep what stands in the database.
                documents = 0 if stop.is_set() else self.history.drop(stop)
        if not stop.is_set():
            self._done_on = today
        return Kept(listed, days, documents, is_whole=not stop.is_set())

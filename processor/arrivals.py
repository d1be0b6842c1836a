"""Entries that were seen to arrive, so that they are taken before a backlog. Only hints."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from itertools import islice

from shared.spool import Entry

MOST = 10_000
"""Names that are remembered at most; what arrives beyond that is found by the listing."""


class Arrivals:
    """What the watcher saw and nobody has taken yet, in its order; safe between threads."""

    def __init__(self) -> None:
        self._waiting: dict[Entry, None] = {}
        self._lock = threading.Lock()
        self._incomplete = True

    def add(self, entries: Iterable[Entry]) -> None:
        """Remember entries; one that waits already keeps its place."""
        with self._lock:
            for entry in entries:
                if len(self._waiting) >= MOST:
                    self._incomplete = True
                    return
                self._waiting[entry] = None

    def missed_some(self) -> None:
        """Something may have arrived unseen: only a listing tells."""
        self._incomplete = True

    def listing_needed(self) -> bool:
        """Whether something may have arrived unseen since this was asked last."""
        needed, self._incomplete = self._incomplete, False
        return needed

    def take(self, most: int) -> list[Entry]:
        """At most so many, the oldest first; they are not remembered any longer."""
        with self._lock:
            taken = list(islice(self._waiting, most))
            for entry in taken:
                del self._waiting[entry]
        return taken

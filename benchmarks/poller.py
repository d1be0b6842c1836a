"""A reader of the database, in a process of its own, that notes when each recorded event was first seen."""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import psycopg
from sqlalchemy import URL

from benchmarks.tiers import wait_until

POLL_SECONDS = 0.002
"""Time between two looks: what is seen was committed that much earlier at most, and the time of one query."""

_COUNT, _RESULT = "count", "result"

Seen = dict[str, float]
"""When the event of a receipt was seen to be committed, on the monotonic clock that all processes share."""


class Poller:
    """Looks at the database until it is closed."""

    def __init__(self, url: URL) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_poll, args=(url, there))
        self._process.start()
        there.close()
        # It is ready: what is recorded from now on is seen in time.
        self._here.recv()

    def count(self) -> int:
        """How many events were seen until now."""
        self._here.send(_COUNT)
        count: int = self._here.recv()
        return count

    def result(self) -> Seen:
        """What was seen until now."""
        self._here.send(_RESULT)
        seen: Seen = self._here.recv()
        return seen

    def wait_for(self, receipts: Collection[str]) -> None:
        """Return when the events of these receipts are recorded.

        Raises:
            RuntimeError: they never are.
        """
        wait_until(lambda: self.result().keys() >= set(receipts), "every callback to be recorded")

    def close(self) -> None:
        """End the process."""
        self._here.close()
        self._process.join()


@contextmanager
def polling(url: URL) -> Iterator[Poller]:
    """A poller that looks meanwhile."""
    poller = Poller(url)
    try:
        yield poller
    finally:
        poller.close()


def _poll(url: URL, there: Connection) -> None:
    cursor = _cursor(url)
    seen: Seen = {}
    last = 0
    there.send(None)
    try:
        while True:
            if there.poll(POLL_SECONDS):
                there.send(len(seen) if there.recv() == _COUNT else seen)
            cursor.execute(f"SELECT id, receipt_id FROM events WHERE id > {last:d}")  # noqa: S608  (a number)
            now = time.monotonic()
            for row_id, receipt_id in cursor.fetchall():
                seen[receipt_id] = now
                last = max(last, row_id)
    except EOFError:
        return


def _cursor(url: URL) -> Any:
    """The driver's own, without a transaction around its statements: a look has to cost next to nothing."""
    if url.get_backend_name() == "sqlite":
        return sqlite3.connect(str(url.database), isolation_level=None).cursor()
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(address, autocommit=True).cursor()

"""Retention in the database: the history of documents that are finished goes when its time is over."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, time, timedelta

import structlog
from sqlalchemy import Connection, Select, delete, exists, func, select, update

from processor.ordered import drop_orders
from shared.clock import Clock
from shared.db.models import Document, EventRow, FileRow, OutboxRow, State
from shared.db.session import Database
from shared.events import DocumentStatus

log = structlog.get_logger()

_IDS_AT_ONCE = 1000
_PAUSE_SECONDS = 0.01
_OPEN = (DocumentStatus.PENDING, DocumentStatus.PROCESSING)


class History:
    """Drops events, deliveries and file rows of finished documents whose last event is long ago.

    The document stays with its id and status, so that a callback which comes again has no effect.
    """

    def __init__(self, database: Database, clock: Clock, *, keep_seconds: float) -> None:
        self._database = database
        self._clock = clock
        self._keep = timedelta(seconds=keep_seconds)

    def over(self) -> int:
        """How many documents have a history that is over.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        before, count = self._before(), 0
        for first, last in self._ranges():
            with self._database.reading() as connection:
                found = _over(before, first, last).subquery()
                count += connection.scalar(select(func.count()).select_from(found)) or 0
        return count

    def drop(self, stop: threading.Event) -> int:
        """Drop what is over, a bounded number of rows in a transaction; returns of how many documents.

        Orders for signature that are as old keep their reference alone.

        Raises:
            DatabaseUnavailableError: the database is away; what was dropped so far stays dropped.
        """
        before, dropped = self._before(), 0
        for first, last in self._ranges():
            if stop.wait(_PAUSE_SECONDS):
                break
            with self._database.reading() as connection:
                found = list(connection.scalars(_over(before, first, last)))
            if found:
                with self._database.transaction() as connection:
                    dropped += self._drop(connection, before, found)
        emptied = _IDS_AT_ONCE
        while emptied == _IDS_AT_ONCE and not stop.wait(_PAUSE_SECONDS):
            with self._database.transaction() as connection:
                emptied = drop_orders(connection, before, _IDS_AT_ONCE)
        if dropped:
            log.info("retention.history_dropped", documents=dropped)
        return dropped

    def _before(self) -> datetime:
        """The beginning of the first day whose events are kept."""
        day = self._clock.today() - timedelta(days=self._keep.days)
        midnight = datetime.combine(day, time(), self._clock.zone)
        return midnight if midnight.tzinfo else midnight.astimezone()

    def _ranges(self) -> Iterator[tuple[int, int]]:
        """All ids of documents in parts, so that no statement takes long."""
        with self._database.reading() as connection:
            last = connection.scalar(select(func.max(Document.id))) or 0
        return ((first, first + _IDS_AT_ONCE) for first in range(0, last + 1, _IDS_AT_ONCE))

    def _drop(self, connection: Connection, before: datetime, found: list[int]) -> int:
        # Once more and locked: news may have come since. Another node that drops too is not waited for.
        ids = list(
            connection.scalars(
                _over(before, min(found), max(found) + 1)
                .where(Document.id.in_(found))
                .with_for_update(of=Document, skip_locked=True)
            )
        )
        for table in (OutboxRow, FileRow, EventRow):
            connection.execute(delete(table).where(table.document_fk.in_(ids)))
        connection.execute(
            update(Document)
            .where(Document.id.in_(ids))
            .values(refs={}, dms={}, learned={}, history_dropped_at=self._clock.now())
        )
        return len(ids)


def _over(before: datetime, first: int, last: int) -> Select[int]:
    """Ids of finished documents with a history of which nothing is new, owed, unsettled or on disk."""
    events = select(EventRow.id).where(EventRow.document_fk == Document.id)
    fresh = events.where((EventRow.recorded_at >= before) | EventRow.settled_at.is_(None))
    owed = exists().where(OutboxRow.document_fk == Document.id, OutboxRow.state != State.DONE)
    on_disk = exists().where(FileRow.document_fk == Document.id, FileRow.path != "")
    return (
        select(Document.id)
        .where(
            Document.id >= first,
            Document.id < last,
            Document.status.not_in(_OPEN),
            events.exists(),
            ~fresh.exists(),
            ~owed,
            ~on_disk,
        )
        .order_by(Document.id)
    )

"""What is owed, for people: listing it, and starting it afresh."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select, update

from processor import outbox
from processor.documents import outbox_item, outbox_query
from shared.db.models import Document, EventRow, FileRow, OutboxRow, State, Task, document_key
from shared.spool import Entry, Folder, Spool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which outbox rows are meant; what is None or empty does not narrow the choice."""

    ids: tuple[int, ...] = ()
    states: tuple[State, ...] = ()
    destination: str | None = None
    provider: str | None = None
    document_id: str | None = None
    file_spool: str | None = None
    """The id of the spool in which the signed file lies that is to be delivered."""

    def narrow(self, query: Any) -> Any:
        """Add the conditions to a query over outbox and documents."""
        if self.ids:
            query = query.where(OutboxRow.id.in_(self.ids))
        if self.states:
            query = query.where(OutboxRow.state.in_(self.states))
        if self.destination is not None:
            query = query.where(OutboxRow.destination == self.destination)
        if self.provider is not None:
            query = query.where(Document.provider == self.provider)
        if self.document_id is not None:
            query = query.where(Document.key == document_key(self.document_id))
        if self.file_spool is not None:
            query = query.where(FileRow.spool_id == self.file_spool)
        return query


def listing(connection: Connection, wanted: Wanted, *, limit: int) -> list[dict[str, Any]]:
    """Outbox rows, the newest first."""
    query = wanted.narrow(outbox_query()).order_by(OutboxRow.id.desc()).limit(limit)
    return [outbox_item(row) for row in connection.execute(query).mappings()]


def undelivered_by_spool(connection: Connection) -> dict[str, int]:
    """How many deliveries wait for a file in each spool, by the spool's id."""
    rows = connection.execute(
        select(FileRow.spool_id, func.count())
        .join(OutboxRow, OutboxRow.file_fk == FileRow.id)
        .where(OutboxRow.task == Task.DELIVER, OutboxRow.state != State.DONE)
        .group_by(FileRow.spool_id)
    )
    return {row[0]: row[1] for row in rows}


def fetch_again(connection: Connection, rows: Collection[int], now: datetime) -> None:
    """Have the files of undone deliveries fetched once more, by whichever machine comes first; that one
    delivers them. What is held or given up stays so."""
    documents = select(OutboxRow.document_fk).where(OutboxRow.id.in_(rows)).distinct()
    for document_fk in sorted(connection.scalars(documents)):
        outbox.fetch_again(connection, document_fk, now)


def retry(connection: Connection, rows: Collection[int], now: datetime) -> list[Entry]:
    """Start rows afresh, held ones too; returns the entries whose file may go back to `deferred/`.

    Rows that are done, or that are being worked on now, are left alone.
    """
    if not rows:
        return []
    outbox.retry(connection, rows, now)
    places = connection.execute(
        select(EventRow.day, EventRow.name)
        .join(OutboxRow, OutboxRow.event_fk == EventRow.id)
        .where(OutboxRow.id.in_(rows), OutboxRow.state == State.DUE)
        .distinct()
    ).all()
    connection.execute(
        update(EventRow)
        .where(EventRow.id.in_(select(OutboxRow.event_fk).where(OutboxRow.id.in_(rows))))
        .values(settled_at=None)
    )
    return [Entry(day, name) for day, name in places]


def bring_back(spool: Spool, entries: Collection[Entry]) -> int:
    """Move the files of retried entries from `quarantine/` to `deferred/`; returns how many were there.

    Raises:
        SpoolUnavailableError: one could not be moved.
    """
    return sum(
        spool.move(entry, Folder.QUARANTINE, Folder.DEFERRED) is not None
        for entry in entries
        if spool.has(Folder.QUARANTINE, entry)
    )

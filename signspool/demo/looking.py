"""Looks while both tiers run: at the database, the folders, and what providers are still asked about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from sqlalchemy import select

from processor import polls
from processor.documents import outbox_item, outbox_query
from shared.db.models import Document, EventRow, OutboxRow
from shared.spool import Folder
from signspool.demo.stage import Stage
from signspool.demo.values import DocumentFact, EventFact, Look, OwedFact, Waited

_MANY = 1000


def look(stage: Stage) -> Look:
    """Look once at database and folders."""
    # First what is asked about, since an answer is spooled before the asking ends.
    with stage.database.reading() as connection:
        asked = polls.listing(connection, None, _MANY)
    about = frozenset((row["provider"], row["subject"]) for row in asked if row["next_at"] is not None)
    # Then the folders: what lies in spool/ may be recorded a moment later, but not the other way about.
    counts = {folder: sum(1 for _ in stage.spool.entries(folder)) for folder in Folder}
    return Look(tuple(documents(stage)), counts, about)


def see_waiting(stage: Stage, document: DocumentFact) -> Waited | None:
    """The entry of a document that lies in `deferred/` and waits; None when none does."""
    receipts = {event.receipt_id for event in document.events}
    reason = document.waiting
    if reason is None:
        return None
    for entry in stage.spool.entries(Folder.DEFERRED):
        if any(receipt in entry.name for receipt in receipts):
            return Waited(*document.name, f"{entry.day}/{entry.name}", reason)
    return None


def documents(stage: Stage) -> Iterator[DocumentFact]:
    """Every document with its history and what is owed, in three queries, since this is asked often."""
    events: dict[int, list[EventFact]] = defaultdict(list)
    owed: dict[int, list[OwedFact]] = defaultdict(list)
    with stage.database.transaction() as connection:
        rows = connection.execute(
            select(Document.id, Document.provider, Document.document_id, Document.status).order_by(
                Document.provider.desc(), Document.document_id
            )
        ).all()
        for event in connection.execute(select(EventRow.__table__).order_by(EventRow.id)).mappings():
            events[event["document_fk"]].append(
                EventFact(
                    event["action"],
                    event["outcome"],
                    event["receipt_id"],
                    event["settled_at"] is not None,
                    event["origin"],
                    event["status_after"],
                )
            )
        for owing in connection.execute(outbox_query().order_by(OutboxRow.id)).mappings():
            item = outbox_item(owing)
            names = ("task", "destination", "state", "attempts", "sha256", "last_error")
            owed[owing["document_fk"]].append(OwedFact(*(item[name] for name in names)))
    for row in rows:
        yield DocumentFact(
            row.provider, row.document_id, row.status, tuple(events[row.id]), tuple(owed[row.id])
        )

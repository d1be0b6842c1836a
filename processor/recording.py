"""Records what entries say: events, status and what is now owed, a whole batch in one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, tuple_, update

from processor import outbox, owed
from processor.reading import ReadEntry
from processor.status import decide
from shared.db.dialect import insert_missing
from shared.db.models import Document, EventRow, State, document_key
from shared.events import DocumentStatus, Event, Outcome
from shared.spool import Entry

DocumentName = tuple[str, str]
"""Provider and document key."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of one entry: its outcomes in order, and the states of what it still owes."""

    outcomes: tuple[Outcome, ...]
    owed: frozenset[State]
    was_known: bool


@dataclass(slots=True)
class _DocumentState:
    id: int
    status: DocumentStatus
    learned: dict[str, str]
    said: set[str]
    changed_at: datetime | None = None
    learned_more: bool = False


@dataclass(slots=True)
class _Plan:
    """Rows to be written, gathered in memory."""

    events: list[dict[str, Any]] = field(default_factory=list)
    applied: list[tuple[int, ReadEntry, DocumentStatus]] = field(default_factory=list)


def record_batch(
    connection: Connection,
    batch: Sequence[ReadEntry],
    *,
    spool_id: str,
    now: datetime,
    policy: owed.Policy,
) -> dict[str, Recorded]:
    """Record a batch; returns what became of each, by receipt id.

    An entry whose receipt is known changes nothing; what it owed and what had been given up is tried afresh,
    since somebody moved the file back on purpose or we died before we moved it on.
    """
    known = _known_receipts(connection, batch)
    fresh: dict[str, ReadEntry] = {}
    for item in batch:
        if item.receipt_id not in known:
            fresh.setdefault(item.receipt_id, item)
    if fresh:
        _record_fresh(connection, fresh.values(), spool_id=spool_id, now=now, policy=policy)
    if known:
        _welcome_back(connection, [item for item in batch if item.receipt_id in known], now)
    return _summary(connection, {item.receipt_id for item in batch}, known)


def _known_receipts(connection: Connection, batch: Iterable[ReadEntry]) -> set[str]:
    ids = {item.receipt_id for item in batch}
    return set(connection.scalars(select(EventRow.receipt_id).where(EventRow.receipt_id.in_(ids)).distinct()))


def _record_fresh(
    connection: Connection,
    items: Collection[ReadEntry],
    *,
    spool_id: str,
    now: datetime,
    policy: owed.Policy,
) -> None:
    documents = _lock_documents(connection, items, now)
    plan = _Plan()
    for item in items:
        for ordinal, event in enumerate(item.events):
            document = documents[item.provider.name, document_key(event.document_id)]
            row = _apply(document, item, event, now)
            plan.events.append({**row, "ordinal": ordinal, "spool_id": spool_id})
            if row["outcome"] == Outcome.APPLIED:
                plan.applied.append((len(plan.events) - 1, item, document.status))
    event_ids = list(
        connection.scalars(insert(EventRow).returning(EventRow.id, sort_by_parameter_order=True), plan.events)
    )
    _store_documents(connection, documents.values(), now)
    owed.enqueue_for_status(
        connection,
        [
            owed.StatusChange(
                provider=item.provider,
                document_fk=plan.events[place]["document_fk"],
                event_fk=event_ids[place],
                status=status,
            )
            for place, item, status in plan.applied
        ],
        now=now,
        policy=policy,
    )


def _lock_documents(
    connection: Connection, items: Iterable[ReadEntry], now: datetime
) -> dict[DocumentName, _DocumentState]:
    """Every document of the batch, made where it is new, locked until the transaction ends.

    Always in the same order, so that two batches of two machines cannot wait for each other.
    """
    wanted: dict[DocumentName, str] = {}
    keys: set[str] = set()
    for item in items:
        for event in item.events:
            wanted[item.provider.name, document_key(event.document_id)] = event.document_id
            keys.add(semantic_key(event))
    insert_missing(
        connection,
        Document,
        [
            {
                "provider": provider,
                "key": key,
                "document_id": wanted[provider, key],
                "status": DocumentStatus.PENDING,
                "created_at": now,
                "refs": {},
                "dms": {},
                "refs_version": 0,
                "learned": {},
            }
            for provider, key in sorted(wanted)
        ],
    )
    rows = connection.execute(
        select(Document.id, Document.provider, Document.key, Document.status, Document.learned)
        .where(tuple_(Document.provider, Document.key).in_(list(wanted)))
        .order_by(Document.provider, Document.key)
        .with_for_update()
    )
    documents = {
        (row.provider, row.key): _DocumentState(row.id, DocumentStatus(row.status), dict(row.learned), set())
        for row in rows
    }
    by_id = {document.id: document for document in documents.values()}
    said = connection.execute(
        select(EventRow.document_fk, EventRow.semantic_key).where(
            EventRow.document_fk.in_(list(by_id)), EventRow.semantic_key.in_(keys)
        )
    )
    for document_fk, key in said:
        by_id[document_fk].said.add(key or "")
    return documents


def _apply(document: _DocumentState, item: ReadEntry, event: Event, now: datetime) -> dict[str, Any]:
    """Move a document forward by one event; returns the event's row but for ordinal and spool."""
    key = semantic_key(event)
    before = document.status
    outcome, after = decide(before, event, said_before=key in document.said)
    first = outcome not in (Outcome.REPEATED, Outcome.UNKNOWN_ACTION)
    if first:
        document.said.add(key)
    if outcome is Outcome.APPLIED:
        document.status = after
        document.changed_at = event.occurred_at or item.received_at
    if event.learned and not event.learned.items() <= document.learned.items():
        document.learned.update(event.learned)
        document.learned_more = True
    return {
        "document_fk": document.id,
        "receipt_id": item.receipt_id,
        "semantic_key": key if first else None,
        "action": event.action,
        "event_type": event.type,
        "outcome": outcome,
        "status_before": before,
        "status_after": after,
        "message": event.message,
        "received_at": item.received_at,
        "occurred_at": event.occurred_at,
        "recorded_at": now,
        "origin": item.origin,
        "trust": item.trust,
        "payload_sha256": item.payload_sha256,
        "day": item.entry.day,
        "name": item.entry.name,
    }


def _store_documents(connection: Connection, documents: Iterable[_DocumentState], now: datetime) -> None:
    changed = [document for document in documents if document.changed_at is not None]
    if changed:
        connection.execute(
            update(Document)
            .where(Document.id == bindparam("row_id"))
            .values(status=bindparam("new_status"), status_at=bindparam("new_status_at")),
            [
                {"row_id": item.id, "new_status": item.status, "new_status_at": item.changed_at}
                for item in changed
            ],
        )
    wiser = [document for document in documents if document.learned_more]
    if wiser:
        connection.execute(
            update(Document)
            .where(Document.id == bindparam("row_id"))
            .values(learned=bindparam("new_learned")),
            [{"row_id": item.id, "new_learned": item.learned} for item in wiser],
        )
        outbox.wake_document(connection, [item.id for item in wiser], now)


def _welcome_back(connection: Connection, items: Iterable[ReadEntry], now: datetime) -> None:
    for item in items:
        connection.execute(
            update(EventRow)
            .where(EventRow.receipt_id == item.receipt_id)
            .values(day=item.entry.day, name=item.entry.name, settled_at=None)
        )
    outbox.revive(connection, {item.receipt_id for item in items}, now)


def _summary(connection: Connection, receipt_ids: set[str], known: set[str]) -> dict[str, Recorded]:
    outcomes: dict[str, list[Outcome]] = {receipt_id: [] for receipt_id in receipt_ids}
    rows = connection.execute(
        select(EventRow.receipt_id, EventRow.outcome)
        .where(EventRow.receipt_id.in_(receipt_ids))
        .order_by(EventRow.receipt_id, EventRow.ordinal)
    )
    for receipt_id, outcome in rows:
        outcomes[receipt_id].append(Outcome(outcome))
    states = outbox.open_states(connection, receipt_ids)
    return {
        receipt_id: Recorded(tuple(found), states.get(receipt_id, frozenset()), receipt_id in known)
        for receipt_id, found in outcomes.items()
    }


def note_place(connection: Connection, receipt_id: str, entry: Entry) -> None:
    """Note that an entry's file has another name now."""
    connection.execute(
        update(EventRow).where(EventRow.receipt_id == receipt_id).values(day=entry.day, name=entry.name)
    )


def mark_settled(connection: Connection, receipt_ids: Collection[str], now: datetime) -> None:
    """Note that nothing is owed for these entries any more, or that they went to quarantine."""
    if receipt_ids:
        connection.execute(
            update(EventRow).where(EventRow.receipt_id.in_(receipt_ids)).values(settled_at=now)
        )


def semantic_key(event: Event) -> str:
    """The event's key in the fixed length that an index takes."""
    return hashlib.sha256(event.key.encode("utf-8", "surrogatepass")).hexdigest()

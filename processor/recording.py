"""Records what entries say: events, status and what is now owed, a whole batch in one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import starmap
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, tuple_, update

from processor import echoes, outbox, owed, polls
from processor.echoes import Echo
from processor.reading import ReadEntry
from processor.status import Claim, decide
from shared.db.dialect import insert_missing
from shared.db.models import Document, EventRow, State, document_key
from shared.events import DocumentStatus, Event, EventType, Origin, Outcome, Trust
from shared.masking import mask
from shared.providers._base import Ask, DocumentView
from shared.spool import Entry

DocumentName = tuple[str, str]
"""Provider and document key."""

# Statements of the hot path, made once: to put one together costs more than to execute it.
_OF_RECEIPTS = EventRow.receipt_id.in_(bindparam("receipt_ids", expanding=True))
_KNOWN_RECEIPTS = select(EventRow.receipt_id).where(_OF_RECEIPTS).distinct()
_EVENT_IDS = select(EventRow.receipt_id, EventRow.ordinal, EventRow.id).where(_OF_RECEIPTS)
_INSERT_EVENTS = insert(EventRow)
_LOCK_DOCUMENTS = (
    select(Document.id, Document.provider, Document.key, Document.status, Document.learned)
    .where(tuple_(Document.provider, Document.key).in_(bindparam("names", expanding=True)))
    .order_by(Document.provider, Document.key)
    .with_for_update()
)
_WHAT_WAS_SAID = select(EventRow.document_fk, EventRow.semantic_key).where(
    EventRow.document_fk.in_(bindparam("document_fks", expanding=True)),
    EventRow.semantic_key.in_(bindparam("keys", expanding=True)),
)
_SET_STATUS = (
    update(Document)
    .where(Document.id == bindparam("row_id"))
    .values(status=bindparam("new_status"), status_at=bindparam("new_status_at"))
)
_SET_LEARNED = (
    update(Document).where(Document.id == bindparam("row_id")).values(learned=bindparam("new_learned"))
)
_OUTCOMES = (
    select(EventRow.receipt_id, EventRow.outcome)
    .where(_OF_RECEIPTS)
    .order_by(EventRow.receipt_id, EventRow.ordinal)
)
_MARK_SETTLED = update(EventRow).where(_OF_RECEIPTS).values(settled_at=bindparam("now"))


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of one entry: its outcomes in order, and the states of what it still owes."""

    outcomes: tuple[Outcome, ...]
    owed: frozenset[State]
    was_known: bool
    is_marked: bool
    """Whether it is marked as settled already."""
    changes: tuple[DocumentStatus, ...] = ()
    """The statuses that documents came to by it now."""


@dataclass(slots=True)
class _DocumentState:
    id: int
    status: DocumentStatus
    learned: dict[str, str]
    said: set[str]
    claims: list[Claim] = field(default_factory=list)
    """Every claim about it, where it may be reopened."""
    changed_at: datetime | None = None
    reopened: bool = False
    learned_more: bool = False


@dataclass(slots=True)
class _Plan:
    """What a batch of new entries leads to, gathered in memory."""

    events: list[dict[str, Any]] = field(default_factory=list)
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    changes: dict[str, list[DocumentStatus]] = field(default_factory=dict)
    owing: list[tuple[ReadEntry, int, DocumentStatus]] = field(default_factory=list)
    """Entry, place of the event in it, and the status from which something follows."""
    confirming: list[tuple[ReadEntry, int, DocumentStatus]] = field(default_factory=list)
    """The same for what the provider wants to hear of."""


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
    recorded: dict[str, Recorded] = {}
    if fresh:
        recorded = _record_fresh(connection, fresh, spool_id=spool_id, now=now, policy=policy)
    if known:
        _welcome_back(connection, [item for item in batch if item.receipt_id in known], spool_id, now)
        recorded |= _summary(connection, known)
    _begin_to_ask(connection, batch, now)
    return recorded


def _begin_to_ask(connection: Connection, batch: Iterable[ReadEntry], now: datetime) -> None:
    """Have the provider asked about what entries make worth asking, and about documents that are not over;
    about one that is over it is asked no more, so that no call is planned for it."""
    # Always in the same order, so that two batches of two machines cannot wait for each other.
    wishes = sorted(
        (
            (item.provider.name, ask.subject, item.trust is Trust.CLAIMED, ask)
            for item in batch
            for ask in item.asks
        ),
        key=itemgetter(0, 1),
    )
    for provider, _, stranger, ask in wishes:
        polls.begin(connection, provider, [ask], now, stranger=stranger)
    kept: dict[tuple[str, str], Ask] = {}
    told: dict[str, set[str]] = {}
    for item in batch:
        for event in item.events if item.provider.polls else ():
            # Who asks sets its own times. Only what goes on again may have been ended meanwhile.
            if item.origin is Origin.POLL and event.type is not EventType.REOPENED:
                continue
            told.setdefault(item.provider.name, set()).add(document_key(event.document_id))
            if event.type.status is not None and event.type.status.is_final:
                continue
            ask_about = item.provider.document_ask(DocumentView(event.document_id, {}, event.learned))
            if ask_about is not None:
                kept[item.provider.name, ask_about.subject] = ask_about
    for provider, subject in sorted(kept):
        polls.keep(connection, provider, [kept[provider, subject]], now)
    for provider in sorted(told):
        # Last, since late news of a document that is over begin nothing.
        polls.end_final(connection, provider, told[provider])


def _known_receipts(connection: Connection, batch: Iterable[ReadEntry]) -> set[str]:
    ids = {item.receipt_id for item in batch}
    return set(connection.scalars(_KNOWN_RECEIPTS, {"receipt_ids": list(ids)}))


def _record_fresh(
    connection: Connection,
    fresh: Mapping[str, ReadEntry],
    *,
    spool_id: str,
    now: datetime,
    policy: owed.Policy,
) -> dict[str, Recorded]:
    documents = _lock_documents(connection, fresh.values(), now)
    plan = _plan(fresh.values(), documents, now=now, policy=policy)
    owing = {item.receipt_id for item, _, _ in (*plan.owing, *plan.confirming)}
    # What cannot owe anything is settled in the very statement that records it.
    rows = [
        {**row, "spool_id": spool_id, "settled_at": None if row["receipt_id"] in owing else now}
        for row in plan.events
    ]
    if rows:
        connection.execute(_INSERT_EVENTS, rows)
    _store_documents(connection, documents.values(), now)
    echoes.settle(connection, _echoes(fresh.values()), now)
    if owing:
        _enqueue(connection, plan, documents, now=now, policy=policy)
    for document in documents.values():
        if document.reopened:
            outbox.withdraw_steps(connection, document.id, document.status)
    states = outbox.open_states(connection, owing) if owing else {}
    return {
        receipt_id: Recorded(
            tuple(outcomes),
            states.get(receipt_id, frozenset()),
            was_known=False,
            is_marked=receipt_id not in owing,
            changes=tuple(plan.changes.get(receipt_id, ())),
        )
        for receipt_id, outcomes in plan.outcomes.items()
    }


def _echoes(items: Iterable[ReadEntry]) -> Iterable[Echo]:
    for item in items:
        for event in item.events:
            # What was only claimed is no word of the provider's.
            if event.reference and item.trust is Trust.PROVEN:
                yield Echo(item.provider.name, event.reference, event.document_id)


def _plan(
    items: Iterable[ReadEntry],
    documents: Mapping[DocumentName, _DocumentState],
    *,
    now: datetime,
    policy: owed.Policy,
) -> _Plan:
    """Move the documents forward by what the entries say, in their order."""
    plan = _Plan()
    for item in items:
        outcomes = plan.outcomes[item.receipt_id] = []
        for ordinal, event in enumerate(item.events):
            document = documents[item.provider.name, document_key(event.document_id)]
            row = _apply(document, item, event, now)
            plan.events.append({**row, "ordinal": ordinal})
            outcomes.append(row["outcome"])
            if row["outcome"] is Outcome.APPLIED:
                plan.changes.setdefault(item.receipt_id, []).append(document.status)
            if row["outcome"] is Outcome.APPLIED and policy.owes(item.provider, document.status):
                plan.owing.append((item, ordinal, document.status))
            if event.confirmation:
                # Also of what was said before: it comes again until it is confirmed.
                plan.confirming.append((item, ordinal, document.status))
    return plan


def _enqueue(
    connection: Connection,
    plan: _Plan,
    documents: Mapping[DocumentName, _DocumentState],
    *,
    now: datetime,
    policy: owed.Policy,
) -> None:
    receipt_ids = {item.receipt_id for item, _, _ in (*plan.owing, *plan.confirming)}
    found = connection.execute(_EVENT_IDS, {"receipt_ids": list(receipt_ids)})
    event_ids = {(receipt_id, ordinal): event_id for receipt_id, ordinal, event_id in found}

    def change(item: ReadEntry, ordinal: int, status: DocumentStatus) -> owed.StatusChange:
        event = item.events[ordinal]
        document = documents[item.provider.name, document_key(event.document_id)]
        return owed.StatusChange(
            provider=item.provider,
            document_fk=document.id,
            event_fk=event_ids[item.receipt_id, ordinal],
            status=status,
            confirmation=event.confirmation,
        )

    owed.enqueue_for_status(connection, list(starmap(change, plan.owing)), now=now, policy=policy)
    owed.enqueue_confirmations(connection, list(starmap(change, plan.confirming)), now=now)


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
    rows = connection.execute(_LOCK_DOCUMENTS, {"names": list(wanted)})
    documents = {
        (row.provider, row.key): _DocumentState(row.id, DocumentStatus(row.status), dict(row.learned), set())
        for row in rows
    }
    by_id = {document.id: document for document in documents.values()}
    said = connection.execute(_WHAT_WAS_SAID, {"document_fks": list(by_id), "keys": list(keys)})
    for document_fk, key in said:
        by_id[document_fk].said.add(key or "")
    _recall_claims(
        connection,
        {
            document.id: document
            for item in items
            if item.provider.can_reopen
            for event in item.events
            for document in (documents[item.provider.name, document_key(event.document_id)],)
        },
    )
    return documents


def _recall_claims(connection: Connection, reopenable: Mapping[int, _DocumentState]) -> None:
    """Every claim that was made about documents which may be reopened, in the order of arrival."""
    if not reopenable:
        return
    rows = connection.execute(
        select(EventRow.document_fk, EventRow.event_type, EventRow.occurred_at, EventRow.received_at)
        .where(
            EventRow.document_fk.in_(list(reopenable)),
            EventRow.event_type.in_([kind for kind in EventType if kind.status is not None]),
            EventRow.outcome != Outcome.REPEATED,
        )
        .order_by(EventRow.id)
    )
    for document_fk, kind, occurred_at, received_at in rows:
        reopenable[document_fk].claims.append(Claim(occurred_at or received_at, EventType(kind)))


def _apply(document: _DocumentState, item: ReadEntry, event: Event, now: datetime) -> dict[str, Any]:
    """Move a document forward by one event; returns the event's row but for ordinal and spool."""
    key = semantic_key(event)
    before = document.status
    at = event.occurred_at or item.received_at
    said_before = key in document.said
    if item.provider.can_reopen and event.type.status is not None and not said_before:
        document.claims.append(Claim(at, event.type))
    outcome, after = decide(before, event, said_before=said_before, history=document.claims)
    first = outcome not in (Outcome.REPEATED, Outcome.UNKNOWN_ACTION)
    if first:
        document.said.add(key)
    if outcome is Outcome.APPLIED:
        document.status = after
        document.changed_at = at
        document.reopened |= event.type is EventType.REOPENED
    learned = item.provider.learn(document.learned, event.learned) if event.learned else document.learned
    if learned != document.learned:
        document.learned = learned
        document.learned_more = True
    return {
        "document_fk": document.id,
        "receipt_id": item.receipt_id,
        "semantic_key": key if first else None,
        "action": mask(event.action),
        "event_type": event.type,
        "outcome": outcome,
        "status_before": before,
        "status_after": after,
        "message": mask(event.message),
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
            _SET_STATUS,
            [
                {"row_id": item.id, "new_status": item.status, "new_status_at": item.changed_at}
                for item in changed
            ],
        )
    wiser = [document for document in documents if document.learned_more]
    if wiser:
        connection.execute(_SET_LEARNED, [{"row_id": item.id, "new_learned": item.learned} for item in wiser])
        outbox.wake_document(connection, [item.id for item in wiser], now)


def _welcome_back(connection: Connection, items: Iterable[ReadEntry], spool_id: str, now: datetime) -> None:
    """Entries that somebody moved back, perhaps from another machine's disk: they are ours from now on."""
    for item in items:
        connection.execute(
            update(EventRow)
            .where(EventRow.receipt_id == item.receipt_id)
            .values(day=item.entry.day, name=item.entry.name, spool_id=spool_id, settled_at=None)
        )
    outbox.revive(connection, {item.receipt_id for item in items}, now)


def _summary(connection: Connection, receipt_ids: Collection[str]) -> dict[str, Recorded]:
    """What became of entries that were recorded before."""
    outcomes: dict[str, list[Outcome]] = {receipt_id: [] for receipt_id in receipt_ids}
    for receipt_id, outcome in connection.execute(_OUTCOMES, {"receipt_ids": list(receipt_ids)}):
        outcomes[receipt_id].append(Outcome(outcome))
    states = outbox.open_states(connection, receipt_ids)
    return {
        receipt_id: Recorded(
            tuple(found), states.get(receipt_id, frozenset()), was_known=True, is_marked=False
        )
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
        connection.execute(_MARK_SETTLED, {"receipt_ids": list(receipt_ids), "now": now})


def semantic_key(event: Event) -> str:
    """The event's key in the fixed length that an index takes."""
    return hashlib.sha256(event.key.encode("utf-8", "surrogatepass")).hexdigest()

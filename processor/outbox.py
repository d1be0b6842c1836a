"""The outbox: how each owed thing moves from due to done.

Every function works inside the caller's transaction. An attempt is charged when it is leased, before the
work, so that one which kills the process is counted too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    case,
    exists,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.orm import aliased

from shared.db.models import Document, EventRow, FileRow, OutboxRow, State, Task
from shared.events import DocumentStatus


@dataclass(frozen=True, slots=True)
class Leased:
    """One owed thing that this process works on now. `attempt` counts from 1 and is charged already."""

    id: int
    task: Task
    key: str
    destination: str
    document_fk: int
    event_fk: int
    file_fk: int | None
    status: DocumentStatus
    attempt: int
    sent_at: datetime | None
    refs_version: int


def lease(
    connection: Connection,
    lane: str,
    limit: int,
    *,
    spool_id: str,
    now: datetime,
    lease_seconds: float,
    least_tried_first: bool = False,
    in_hand: Collection[int] = (),
) -> list[Leased]:
    """Take what is due in a lane, and charge an attempt for each.

    The oldest first; or, for the trials of a breaker, what was tried least, so that a few documents with
    trouble of their own do not keep the lane closed to all others. What the caller still has `in_hand` is
    left alone: it may be due after a commit whose answer was lost, and the caller is about to repeat that.
    """
    first = (OutboxRow.attempts,) if least_tried_first else ()
    due = (
        _due(lane, spool_id, now)
        .where(OutboxRow.id.not_in(in_hand))
        .order_by(*first, OutboxRow.next_attempt_at, OutboxRow.id)
    )
    taken: Sequence[Row[Any]] = connection.execute(due.limit(limit)).all()
    if not taken:
        return []
    connection.execute(
        update(OutboxRow)
        .where(OutboxRow.id.in_([row.id for row in taken]))
        .values(
            attempts=OutboxRow.attempts + 1,
            lease_until=now + timedelta(seconds=lease_seconds),
            leased_by=spool_id,
        )
    )
    return [
        Leased(
            id=row.id,
            task=Task(row.task),
            key=row.key,
            destination=row.destination,
            document_fk=row.document_fk,
            event_fk=row.event_fk,
            file_fk=row.file_fk,
            status=DocumentStatus(row.status),
            attempt=row.attempts + 1,
            sent_at=row.sent_at,
            refs_version=row.refs_version,
        )
        for row in taken
    ]


def _due(lane: str, spool_id: str, now: datetime) -> Select[*tuple[Any, ...]]:
    return (
        select(
            OutboxRow.id,
            OutboxRow.task,
            OutboxRow.key,
            OutboxRow.destination,
            OutboxRow.document_fk,
            OutboxRow.event_fk,
            OutboxRow.file_fk,
            OutboxRow.status,
            OutboxRow.attempts,
            OutboxRow.sent_at,
            Document.refs_version,
        )
        .join(Document, Document.id == OutboxRow.document_fk)
        .where(
            OutboxRow.lane == lane,
            OutboxRow.state == State.DUE,
            OutboxRow.next_attempt_at <= now,
            or_(OutboxRow.lease_until.is_(None), OutboxRow.lease_until < now),
            *_prerequisites(spool_id),
        )
        .with_for_update(skip_locked=True, of=OutboxRow)
    )


def _prerequisites(spool_id: str) -> tuple[ColumnElement[bool], ...]:
    """A file lies on this machine; a workflow step follows the files; the mirror hears in order."""
    other = aliased(OutboxRow)
    undelivered = exists().where(
        other.document_fk == OutboxRow.document_fk,
        or_(
            other.task == Task.FETCH,
            and_(other.task == Task.DELIVER, other.destination == OutboxRow.destination),
        ),
        other.state != State.DONE,
    )
    unheard = exists().where(
        other.document_fk == OutboxRow.document_fk,
        other.task == Task.MIRROR,
        other.id < OutboxRow.id,
        other.state.in_((State.DUE, State.WAITING)),
    )
    ours = exists().where(FileRow.id == OutboxRow.file_fk, FileRow.spool_id == spool_id)
    return (
        or_(OutboxRow.file_fk.is_(None), ours),
        or_(OutboxRow.task != Task.ADVANCE, ~undelivered),
        or_(OutboxRow.task != Task.MIRROR, ~unheard),
    )


def mark_sent(connection: Connection, leased: Leased, now: datetime) -> None:
    """Note that from now on the effect may have happened."""
    _update(connection, leased.id, sent_at=now)


def renew(connection: Connection, ids: Collection[int], *, now: datetime, lease_seconds: float) -> None:
    """Keep what is still being worked on."""
    connection.execute(
        update(OutboxRow)
        .where(OutboxRow.id.in_(ids), OutboxRow.lease_until.is_not(None))
        .values(lease_until=now + timedelta(seconds=lease_seconds))
    )


def finish(connection: Connection, leased: Leased, now: datetime, remote_reference: str = "") -> None:
    """It is done, for good; but files are owed again when more was registered meanwhile."""
    if leased.task is Task.FETCH and _is_outdated(connection, leased):
        _update(connection, leased.id, attempts=0, next_attempt_at=now, last_error="", **_NOT_LEASED)
        return
    _update(
        connection,
        leased.id,
        state=State.DONE,
        done_at=now,
        remote_reference=remote_reference,
        last_error="",
        **_NOT_LEASED,
    )


def _is_outdated(connection: Connection, leased: Leased) -> bool:
    """Whether the document's registration has changed since the work was leased."""
    version = connection.scalar(
        select(Document.refs_version).where(Document.id == leased.document_fk).with_for_update()
    )
    return version != leased.refs_version


def put_off(
    connection: Connection,
    leased: Leased,
    error: str,
    *,
    now: datetime,
    delay_seconds: float,
    without_effect: bool = True,
) -> None:
    """It failed: try again later. `without_effect` is false when it may have had its effect all the same."""
    values = {"sent_at": None} if without_effect else {}
    later = now + timedelta(seconds=delay_seconds)
    _update(connection, leased.id, last_error=error, next_attempt_at=later, **values, **_NOT_LEASED)


def give_back(connection: Connection, leased: Leased, *, now: datetime, delay_seconds: float = 0.0) -> None:
    """Our own means failed before anything was sent: nobody is charged, and no mark says otherwise."""
    later = now + timedelta(seconds=delay_seconds)
    as_before = {"attempts": leased.attempt - 1, "sent_at": leased.sent_at, **_NOT_LEASED}
    _update(connection, leased.id, next_attempt_at=later, **as_before)


def disown(connection: Connection, lane: str, in_hand: Collection[int], *, spool_id: str) -> None:
    """After a lease whose commit was not answered: what it took is due again, and nobody is charged."""
    connection.execute(
        update(OutboxRow)
        .where(OutboxRow.lane == lane, OutboxRow.leased_by == spool_id, OutboxRow.id.not_in(in_hand))
        .values(attempts=OutboxRow.attempts - 1, **_NOT_LEASED)
    )


def let_wait(connection: Connection, leased: Leased, reason: str, now: datetime) -> None:
    """Something has to be said first: nobody is charged. If it was said just now, it is due at once."""
    state = State.DUE if _is_outdated(connection, leased) else State.WAITING
    _update(
        connection,
        leased.id,
        state=state,
        attempts=leased.attempt - 1,
        next_attempt_at=now,
        last_error=reason,
        sent_at=None,
        **_NOT_LEASED,
    )


def hold(connection: Connection, leased: Leased, reason: str) -> None:
    """It may have been done: a person decides."""
    _update(connection, leased.id, state=State.HELD, last_error=reason, **_NOT_LEASED)


def give_up(connection: Connection, leased: Leased, reason: str) -> None:
    """It is not going to work."""
    _update(connection, leased.id, state=State.FAILED, last_error=reason, sent_at=None, **_NOT_LEASED)


_NOT_LEASED: dict[str, Any] = {"lease_until": None, "leased_by": ""}


def _update(connection: Connection, row_id: int, **values: Any) -> None:
    connection.execute(update(OutboxRow).where(OutboxRow.id == row_id).values(**values))


# Waking up


def release_leases(connection: Connection, spool_id: str) -> None:
    """At start: what the process before us was working on is due again, its attempt stays charged.

    Where the effect may have happened `sent_at` still says so, and whoever takes it next sees that.
    """
    connection.execute(update(OutboxRow).where(OutboxRow.leased_by == spool_id).values(**_NOT_LEASED))


def wake_waiting(connection: Connection, lanes: Collection[str], now: datetime) -> None:
    """At start: what waits for a registration or for a setting is tried again.

    What is owed to a peer that is in no setting any more waits, with that reason, rather than being due for
    ever in a lane that does not exist.
    """
    connection.execute(
        update(OutboxRow).where(OutboxRow.state == State.WAITING).values(state=State.DUE, next_attempt_at=now)
    )
    connection.execute(
        update(OutboxRow)
        .where(OutboxRow.state == State.DUE, OutboxRow.lane.not_in(lanes))
        .values(
            state=State.WAITING,
            last_error=literal("not configured any more: put it back into the settings: ") + OutboxRow.lane,
        )
    )


def wake_document(connection: Connection, document_fks: Collection[int], now: datetime) -> None:
    """What documents still owe and nobody works on is tried at once."""
    connection.execute(
        update(OutboxRow)
        .where(
            OutboxRow.document_fk.in_(document_fks),
            OutboxRow.state.in_((State.WAITING, State.DUE)),
            OutboxRow.lease_until.is_(None),
        )
        .values(state=State.DUE, next_attempt_at=now)
    )


def registered(connection: Connection, document_fk: int, now: datetime) -> None:
    """A document's registration is new or has changed: what it owes is tried at once, what had been given up
    is started afresh. What is held stays held."""
    wake_document(connection, [document_fk], now)
    events = connection.scalars(
        update(OutboxRow)
        .where(OutboxRow.document_fk == document_fk, OutboxRow.state == State.FAILED)
        .values(**_AFRESH, next_attempt_at=now)
        .returning(OutboxRow.event_fk)
    ).all()
    _unsettle(connection, events)


def has_rows(connection: Connection, document_fk: int) -> bool:
    """Whether anything was ever owed for a document; of one that was only sent out, nothing was."""
    return bool(connection.scalar(select(exists().where(OutboxRow.document_fk == document_fk))))


def _unsettle(connection: Connection, event_fks: Collection[int]) -> None:
    if event_fks:
        connection.execute(update(EventRow).where(EventRow.id.in_(event_fks)).values(settled_at=None))


def revive(connection: Connection, receipt_ids: Collection[str], now: datetime) -> None:
    """Somebody moved these entries back: what they owe is tried at once, what had been given up is started
    afresh. What is held stays held."""
    event_ids = select(EventRow.id).where(EventRow.receipt_id.in_(receipt_ids))
    connection.execute(
        update(OutboxRow)
        .where(OutboxRow.event_fk.in_(event_ids), OutboxRow.state == State.FAILED)
        .values(**_AFRESH, next_attempt_at=now)
    )
    connection.execute(
        update(OutboxRow)
        .where(
            OutboxRow.event_fk.in_(event_ids),
            OutboxRow.state.in_((State.WAITING, State.DUE)),
            OutboxRow.lease_until.is_(None),
        )
        .values(state=State.DUE, next_attempt_at=now)
    )


def fetch_again(connection: Connection, document_fk: int, now: datetime) -> None:
    """Owe the signed files of a document once more; what was delivered is not delivered again."""
    events = connection.scalars(
        update(OutboxRow)
        .where(
            OutboxRow.document_fk == document_fk,
            OutboxRow.task == Task.FETCH,
            OutboxRow.state == State.DONE,
        )
        .values(**_AFRESH, next_attempt_at=now, done_at=None)
        .returning(OutboxRow.event_fk)
    ).all()
    _unsettle(connection, events)


def retry(connection: Connection, row_ids: Collection[int], now: datetime) -> int:
    """Start afresh what a person names, held or not; what is done or being worked on is left alone.

    Returns how many rows were changed.
    """
    changed = connection.execute(
        update(OutboxRow)
        .where(
            OutboxRow.id.in_(row_ids),
            OutboxRow.state != State.DONE,
            or_(OutboxRow.lease_until.is_(None), OutboxRow.lease_until < now),
        )
        .values(**_AFRESH, next_attempt_at=now)
    )
    return int(changed.rowcount)


_AFRESH: dict[str, Any] = {"state": State.DUE, "attempts": 0, "sent_at": None, **_NOT_LEASED}


# Looking


def open_states(connection: Connection, receipt_ids: Collection[str]) -> dict[str, frozenset[State]]:
    """The states, other than done, of what entries still owe, by receipt id; entries that owe nothing are
    left out."""
    found: dict[str, set[State]] = {}
    rows = connection.execute(
        select(EventRow.receipt_id, OutboxRow.state)
        .join(OutboxRow, OutboxRow.event_fk == EventRow.id)
        .where(EventRow.receipt_id.in_(receipt_ids), OutboxRow.state != State.DONE)
    )
    for receipt_id, state in rows:
        found.setdefault(receipt_id, set()).add(State(state))
    return {receipt_id: frozenset(states) for receipt_id, states in found.items()}


def is_superseded(connection: Connection, leased: Leased) -> bool:
    """Whether the mirror has already heard of a later status of the same document."""
    return bool(
        connection.scalar(
            select(
                exists().where(
                    OutboxRow.document_fk == leased.document_fk,
                    OutboxRow.task == Task.MIRROR,
                    OutboxRow.state == State.DONE,
                    OutboxRow.id > leased.id,
                )
            )
        )
    )


def earliest_due(connection: Connection, lane: str) -> datetime | None:
    """When the next thing of a lane is due, leased or not; None when nothing is."""
    when = case(
        (
            and_(OutboxRow.lease_until.is_not(None), OutboxRow.lease_until > OutboxRow.next_attempt_at),
            OutboxRow.lease_until,
        ),
        else_=OutboxRow.next_attempt_at,
    )
    found: datetime | None = connection.scalar(
        select(func.min(when)).where(OutboxRow.lane == lane, OutboxRow.state == State.DUE)
    )
    return found


def take_delivered_file(connection: Connection, file_fk: int) -> list[str]:
    """The path of a file that every destination has, noted as deleted; empty while it has to stay."""
    rows = exists().where(OutboxRow.file_fk == file_fk)
    undelivered = exists().where(OutboxRow.file_fk == file_fk, OutboxRow.state != State.DONE)
    path = connection.scalar(select(FileRow.path).where(FileRow.id == file_fk, rows, ~undelivered))
    if not path:
        return []
    connection.execute(update(FileRow).where(FileRow.id == file_fk).values(path=""))
    return [path]


class DocumentFacts(NamedTuple):
    """What the work on an owed thing needs to know of its document."""

    provider: str
    document_id: str
    status: DocumentStatus
    refs: dict[str, str]
    dms: dict[str, str]
    learned: dict[str, str]


def document_of(connection: Connection, document_fk: int) -> DocumentFacts:
    """The facts of one document."""
    row = connection.execute(
        select(
            Document.provider,
            Document.document_id,
            Document.status,
            Document.refs,
            Document.dms,
            Document.learned,
        ).where(Document.id == document_fk)
    ).one()
    return DocumentFacts(row[0], row[1], DocumentStatus(row[2]), row[3], row[4], row[5])

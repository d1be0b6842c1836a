"""The outbox: how each owed thing moves from due to done.

Every function works inside the caller's transaction. An attempt is charged when it is leased (see
`processor.leasing`), before the work, so that one which kills the process is counted too.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, exists, literal, or_, select, update
from sqlalchemy.orm import aliased

from processor.access import REFUSED
from processor.leasing import NOT_LEASED, Leased, still_leased, unblock
from shared.db.models import Document, EventRow, FileRow, OutboxRow, State, Task
from shared.errors import LeaseLostError
from shared.events import DocumentStatus


def mark_sent(connection: Connection, leased: Leased, now: datetime) -> None:
    """Note that from now on the effect may have happened.

    Raises:
        LeaseLostError: another process has taken it over.
    """
    _update(connection, leased, sent_at=now)


def finish(connection: Connection, leased: Leased, now: datetime, remote_reference: str = "") -> None:
    """It is done, for good; but files are owed again when more was registered meanwhile.

    This holds even if another process has taken it over: it finds out before it does the thing once more. If
    that one has given it up or held it by then, it is done all the same, and its entry is settled once more.
    """
    again = leased.task is Task.FETCH and _is_outdated(connection, leased)
    values: dict[str, Any] = (
        {"state": State.DUE, "attempts": 0, "next_attempt_at": now}
        if again
        else {"state": State.DONE, "done_at": now, "remote_reference": remote_reference}
    )
    ended = update(OutboxRow).values(**values, last_error="", **NOT_LEASED)
    if not connection.execute(ended.where(still_leased(leased))).rowcount:
        connection.execute(ended.where(OutboxRow.id == leased.id))
        _unsettle(connection, [leased.event_fk])
    if not again:
        unblock(connection, leased, now)


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
    _update(connection, leased, last_error=error, next_attempt_at=later, **values, **NOT_LEASED)


def give_back(
    connection: Connection,
    leased: Leased,
    *,
    now: datetime,
    delay_seconds: float = 0.0,
    reason: str | None = None,
) -> None:
    """Something that concerns all alike failed before anything was done: nobody is charged, and no mark says
    otherwise. A reason of None leaves the last one."""
    later = now + timedelta(seconds=delay_seconds)
    as_before = {"attempts": leased.attempt - 1, "sent_at": leased.sent_at, **NOT_LEASED}
    why = {} if reason is None else {"last_error": reason}
    _update(connection, leased, next_attempt_at=later, **as_before, **why)


def let_wait(connection: Connection, leased: Leased, reason: str, now: datetime) -> None:
    """Something has to be said first: nobody is charged. If it was said just now, it is due at once."""
    state = State.DUE if _is_outdated(connection, leased) else State.WAITING
    _update(
        connection,
        leased,
        state=state,
        attempts=leased.attempt - 1,
        next_attempt_at=now,
        last_error=reason,
        sent_at=None,
        **NOT_LEASED,
    )


def hold(connection: Connection, leased: Leased, reason: str) -> None:
    """It may have been done: a person decides."""
    _update(connection, leased, state=State.HELD, last_error=reason, **NOT_LEASED)


def give_up(connection: Connection, leased: Leased, reason: str) -> None:
    """It is not going to work."""
    _update(connection, leased, state=State.FAILED, last_error=reason, sent_at=None, **NOT_LEASED)


def _update(connection: Connection, leased: Leased, **values: Any) -> None:
    """Change a row that this process works on.

    Raises:
        LeaseLostError: another process has taken it over.
    """
    changed = connection.execute(update(OutboxRow).where(still_leased(leased)).values(**values))
    if not changed.rowcount:
        raise LeaseLostError(f"delivery {leased.id} was taken over by another processor: it goes on there")


# Waking up


def release_leases(connection: Connection, spool_id: str) -> None:
    """At start: what the process before us was working on is due again, its attempt stays charged.

    Where the effect may have happened `sent_at` still says so, and whoever takes it next sees that.
    """
    connection.execute(update(OutboxRow).where(OutboxRow.leased_by == spool_id).values(**NOT_LEASED))


def try_again(connection: Connection, lanes: Collection[str], now: datetime) -> None:
    """What waits in these lanes for a registration, a setting or a key that is accepted is due now."""
    connection.execute(
        update(OutboxRow)
        .where(OutboxRow.state == State.WAITING, OutboxRow.lane.in_(lanes))
        .values(state=State.DUE, next_attempt_at=now)
    )
    connection.execute(
        update(OutboxRow)
        .where(
            OutboxRow.state == State.DUE,
            OutboxRow.lane.in_(lanes),
            OutboxRow.lease_until.is_(None),
            OutboxRow.last_error.startswith(REFUSED, autoescape=True),
        )
        .values(next_attempt_at=now)
    )


def wake_waiting(connection: Connection, lanes: Collection[str], now: datetime) -> None:
    """At start, and with new settings: what waits for a registration, a setting or a key that is accepted is
    tried again.

    What is owed to a peer that is in no setting any more waits, with that reason, rather than being due for
    ever in a lane that does not exist. If another machine has that lane, it takes it back: see `wake_ours`.
    """
    try_again(connection, lanes, now)
    connection.execute(
        update(OutboxRow)
        .where(
            OutboxRow.state == State.DUE,
            OutboxRow.lane.not_in(lanes),
            or_(OutboxRow.lease_until.is_(None), OutboxRow.lease_until < now),
        )
        .values(
            state=State.WAITING,
            last_error=literal(f"{_NOT_CONFIGURED} put it back into the settings: ") + OutboxRow.lane,
        )
    )


def wake_ours(connection: Connection, lanes: Collection[str]) -> None:
    """What a machine with other settings took for not configured goes on as it was, if it is here."""
    connection.execute(
        update(OutboxRow)
        .where(
            OutboxRow.state == State.WAITING,
            OutboxRow.lane.in_(lanes),
            OutboxRow.last_error.startswith(f"{_NOT_CONFIGURED} put"),
        )
        .values(state=State.DUE, last_error="")
    )


def wake_document(connection: Connection, document_fks: Collection[int], now: datetime) -> None:
    """What documents still owe and nobody works on is tried at once."""
    _wake(connection, OutboxRow.document_fk.in_(document_fks), now)


def _wake(connection: Connection, which: ColumnElement[bool], now: datetime) -> None:
    connection.execute(
        update(OutboxRow)
        .where(which, OutboxRow.state.in_((State.WAITING, State.DUE)), OutboxRow.lease_until.is_(None))
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
    theirs = OutboxRow.event_fk.in_(select(EventRow.id).where(EventRow.receipt_id.in_(receipt_ids)))
    connection.execute(
        update(OutboxRow)
        .where(theirs, OutboxRow.state == State.FAILED)
        .values(**_AFRESH, next_attempt_at=now)
    )
    _wake(connection, theirs, now)


def withdraw_steps(connection: Connection, document_fk: int, status: DocumentStatus) -> None:
    """A document was reopened and has this status now: steps for another that nobody has taken yet fall
    away. The entries that owed them are settled by the next scan."""
    connection.execute(
        delete(OutboxRow).where(
            OutboxRow.document_fk == document_fk,
            OutboxRow.task == Task.ADVANCE,
            OutboxRow.status != status,
            OutboxRow.state != State.DONE,
            OutboxRow.sent_at.is_(None),
            OutboxRow.lease_until.is_(None),
        )
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


_NOT_CONFIGURED = "not configured any more:"
_AFRESH: dict[str, Any] = {"state": State.DUE, "attempts": 0, "sent_at": None, **NOT_LEASED}


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


def take_delivered_file(connection: Connection, file_fk: int) -> list[str]:
    """The path of a file that every destination has, noted as deleted; empty while it has to stay."""
    # Two destinations may end at the same moment on PostgreSQL, and neither sees the other's end before it is
    # committed. So the second one waits here, and the look below, which begins after that, sees both.
    connection.execute(select(FileRow.id).where(FileRow.id == file_fk).with_for_update())
    # By the document too, since that is what the index knows.
    owed = (OutboxRow.document_fk == FileRow.document_fk, OutboxRow.file_fk == FileRow.id)
    undelivered = exists().where(*owed, OutboxRow.state != State.DONE)
    path = connection.scalar(
        select(FileRow.path).where(FileRow.id == file_fk, exists().where(*owed), ~undelivered)
    )
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


def was_confirmed_since(connection: Connection, leased: Leased) -> bool:
    """Whether what this confirmation is of was confirmed after the provider had told of it for this time.

    Then the very same thing was told several times before the first confirmation was made.
    """
    told, before = aliased(EventRow), aliased(EventRow)
    same = exists().where(
        told.id == leased.event_fk,
        before.id == OutboxRow.event_fk,
        before.document_fk == told.document_fk,
        before.payload_sha256 == told.payload_sha256,
        OutboxRow.document_fk == leased.document_fk,
        OutboxRow.task == Task.CONFIRM,
        OutboxRow.state == State.DONE,
        OutboxRow.done_at >= told.received_at,
    )
    return bool(connection.scalar(select(same)))

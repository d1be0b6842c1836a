"""Who works on what is owed: taking what is due in a lane, and keeping it while the work goes on.

What a lane takes has to cost the same whether ten things are due or a hundred thousand. So the first few
dozen in the order of the index are looked at, never all; and what stands at the front but has to wait for
something else is put out of the way until that has happened.

Every function works inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    case,
    exists,
    false,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.orm import aliased

from shared.db.models import Document, EventRow, FileRow, OutboxRow, State, Task
from shared.events import DocumentStatus

_WINDOW = 100
"""How many due things are looked at in one go, unless more are wanted."""
_SPARE_FACTOR = 8
"""How many more than are wanted may be tried to be had, should other processes take some meanwhile."""
NOT_LEASED: dict[str, Any] = {"lease_until": None, "leased_by": ""}
"""Values of a row that nobody works on."""

_SHORTEST_PAUSE = timedelta(minutes=1)
_LONGEST_PAUSE = timedelta(hours=1)


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
    leased_by: str
    details: Mapping[str, str]
    receipt_id: str
    """The receipt of the callback that it follows from."""


def lease(
    connection: Connection,
    lane: str,
    limit: int,
    *,
    spool_id: str,
    now: datetime,
    lease_seconds: float,
    least_tried_first: bool = False,
    busy: Collection[int] = (),
) -> tuple[list[Leased], bool]:
    """Take what is due in a lane, and charge an attempt for each; also says whether to look again at once.

    The oldest first; or, for the trials of a breaker, what was tried least, so that a few documents with
    trouble of their own do not keep the lane closed to all others. To look again at once is worth while when
    what had to wait for something else filled the view: it is out of the way now. `busy` is what this process
    works on already, whatever became of the lease while the database was away.
    """
    window = max(_WINDOW, limit)
    seen = _look(connection, lane, spool_id, now, window=window, busy=busy)
    blocked = [row for row in seen if row.blocked]
    free = [row for row in seen if not row.blocked]
    if least_tried_first:
        free.sort(key=lambda row: row.attempts)
    _put_aside(connection, blocked, now)
    taken = _lock(connection, free[: limit * _SPARE_FACTOR], limit, now, least_tried_first)
    _charge(connection, taken, spool_id, now + timedelta(seconds=lease_seconds))
    again = bool(blocked) and len(seen) == window and len(taken) < limit
    return [_leased(row, spool_id) for row in taken], again


def _look(
    connection: Connection,
    lane: str,
    spool_id: str,
    now: datetime,
    *,
    window: int,
    busy: Collection[int],
) -> list[Row[Any]]:
    """The first of what is due, and whether each has to wait for something else. Nothing is locked."""
    # A comparison with a value, and not a join: the planner of a table whose figures are old might join all
    # that is due before it takes the first few.
    file_spool = select(FileRow.spool_id).where(FileRow.id == OutboxRow.file_fk).scalar_subquery()
    return list(
        connection.execute(
            select(
                OutboxRow.id,
                OutboxRow.attempts,
                OutboxRow.next_attempt_at,
                OutboxRow.created_at,
                _blocked().label("blocked"),
            )
            .where(
                OutboxRow.lane == lane,
                _is_free(now),
                OutboxRow.id.not_in(busy),
                # A file lies on one machine, and only that one can deliver it.
                or_(OutboxRow.file_fk.is_(None), file_spool == spool_id),
            )
            # By nothing else: this is the order of the index, and a second key would sort all that is due.
            .order_by(OutboxRow.next_attempt_at)
            .limit(window)
        )
    )


def _is_free(now: datetime) -> ColumnElement[bool]:
    return and_(
        OutboxRow.state == State.DUE,
        OutboxRow.next_attempt_at <= now,
        or_(OutboxRow.lease_until.is_(None), OutboxRow.lease_until < now),
    )


def _blocked() -> ColumnElement[bool]:
    """Whether it has to wait: a workflow step until the files are delivered; a confirmation until they are
    stored, and until those before it are made; and the mirror hears in order."""
    other = aliased(OutboxRow)
    undelivered = exists().where(
        other.document_fk == OutboxRow.document_fk,
        or_(
            other.task == Task.FETCH,
            and_(other.task == Task.DELIVER, other.destination == OutboxRow.destination),
        ),
        other.state != State.DONE,
    )
    unstored = exists().where(
        other.document_fk == OutboxRow.document_fk, other.task == Task.FETCH, other.state != State.DONE
    )
    unsaid = exists().where(
        other.document_fk == OutboxRow.document_fk,
        other.task == Task.CONFIRM,
        other.id < OutboxRow.id,
        other.state.in_((State.DUE, State.WAITING)),
    )
    unheard = exists().where(
        other.document_fk == OutboxRow.document_fk,
        other.task == Task.MIRROR,
        other.id < OutboxRow.id,
        other.state.in_((State.DUE, State.WAITING)),
    )
    return case(
        (OutboxRow.task == Task.ADVANCE, undelivered),
        (OutboxRow.task == Task.CONFIRM, or_(unstored, unsaid)),
        (OutboxRow.task == Task.MIRROR, unheard),
        else_=false(),
    )


def _put_aside(connection: Connection, blocked: list[Row[Any]], now: datetime) -> None:
    """Have what has to wait stand in nobody's way; `unblock` brings it back when its time has come.

    It is looked at again by itself after as long as it has waited already, within an hour.
    """
    if not blocked:
        return
    waited = now - max(row.created_at for row in blocked)
    connection.execute(
        update(OutboxRow)
        .where(
            OutboxRow.id.in_([row.id for row in blocked]),
            # Unless it was unblocked since it was looked at.
            tuple_(OutboxRow.id, OutboxRow.next_attempt_at).in_(
                [(row.id, row.next_attempt_at) for row in blocked]
            ),
        )
        .values(next_attempt_at=now + min(max(waited, _SHORTEST_PAUSE), _LONGEST_PAUSE))
    )


def _lock(
    connection: Connection, free: list[Row[Any]], limit: int, now: datetime, least_tried_first: bool
) -> list[Row[Any]]:
    """Of what was looked at, as much as is wanted and nobody else has taken meanwhile."""
    if not free:
        return []
    order = (
        (OutboxRow.attempts, OutboxRow.next_attempt_at) if least_tried_first else (OutboxRow.next_attempt_at,)
    )
    due = (
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
            OutboxRow.details,
            Document.refs_version,
            EventRow.receipt_id,
        )
        .join(Document, Document.id == OutboxRow.document_fk)
        .join(EventRow, EventRow.id == OutboxRow.event_fk)
        .where(OutboxRow.id.in_([row.id for row in free]), _is_free(now))
        .order_by(*order)
        .limit(limit)
        .with_for_update(skip_locked=True, of=OutboxRow)
    )
    return list(connection.execute(due))


def _charge(connection: Connection, taken: list[Row[Any]], spool_id: str, until: datetime) -> None:
    if taken:
        connection.execute(
            update(OutboxRow)
            .where(OutboxRow.id.in_([row.id for row in taken]))
            .values(attempts=OutboxRow.attempts + 1, lease_until=until, leased_by=spool_id)
        )


def _leased(row: Row[Any], spool_id: str) -> Leased:
    return Leased(
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
        leased_by=spool_id,
        details=row.details,
        receipt_id=row.receipt_id,
    )


def still_leased(leased: Leased) -> ColumnElement[bool]:
    """Whether the work is still this process', and no other took it over after the lease had run out."""
    return and_(
        OutboxRow.id == leased.id,
        OutboxRow.leased_by == leased.leased_by,
        OutboxRow.attempts == leased.attempt,
        OutboxRow.lease_until.is_not(None),
    )


def disown(connection: Connection, lane: str, busy: Collection[int], *, spool_id: str) -> None:
    """After a lease whose commit was not answered: what it took is due again, and nobody is charged."""
    connection.execute(
        update(OutboxRow)
        .where(OutboxRow.lane == lane, OutboxRow.leased_by == spool_id, OutboxRow.id.not_in(busy))
        .values(attempts=OutboxRow.attempts - 1, **NOT_LEASED)
    )


def renew(connection: Connection, leased: Leased, *, now: datetime, lease_seconds: float) -> None:
    """Keep what is still being worked on."""
    connection.execute(
        update(OutboxRow)
        .where(still_leased(leased))
        .values(lease_until=now + timedelta(seconds=lease_seconds))
    )


def unblock(connection: Connection, leased: Leased, now: datetime) -> None:
    """What had to wait for a thing that is done now may be taken at once.

    Rows that are due already are written too: whoever is about to put one aside, having seen it blocked, then
    finds it changed, or has to be waited for.
    """
    waiting = (Task.MIRROR,) if leased.task is Task.MIRROR else (Task.ADVANCE, Task.CONFIRM)
    connection.execute(
        update(OutboxRow)
        .where(
            OutboxRow.document_fk == leased.document_fk,
            OutboxRow.task.in_(waiting),
            OutboxRow.state == State.DUE,
            OutboxRow.lease_until.is_(None),
        )
        .values(next_attempt_at=now)
    )

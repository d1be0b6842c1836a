"""What a look at the database finds for the metrics: bounded, however much is owed or was ever recorded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, or_, select

from processor.access import REFUSED
from processor.silence import unanswered_since
from shared.db.models import FileRow, OutboxRow, PollRow, State

MOST_COUNTED = 10_000
"""Rows of one lane and state that are counted."""

OTHER_LANE = "other"
"""Lanes that are in no setting any more."""

OPEN_STATES = tuple(state for state in State if state is not State.DONE)

_MOST_OTHER_LANES = 20
_DUE_LOOKED_AT = 100
"""More than one lane ever has in hand, so that one which nobody works on is among them."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What is owed by lane and state, since when the oldest of a lane is overdue, since when a provider that
    is polled should have been asked, and since when one has left unanswered what it is asked."""

    owed: Mapping[tuple[str, str], int]
    overdue_since: Mapping[str, datetime]
    poll_overdue_since: Mapping[str, datetime]
    unanswered_since: Mapping[str, datetime]


def figures(connection: Connection, lanes: Collection[str], *, spool_id: str, now: datetime) -> Figures:
    """Count and look, each along an index. What only another machine can do is not overdue here."""
    others = _other_lanes(connection, lanes)
    owed = {(lane, str(state)): _count(connection, [lane], state) for lane in lanes for state in OPEN_STATES}
    owed |= {(OTHER_LANE, str(state)): _count(connection, others, state) for state in OPEN_STATES}
    overdue = {lane: overdue_since(connection, lane, spool_id, now) for lane in lanes}
    return Figures(
        owed,
        {lane: since for lane, since in overdue.items() if since is not None},
        _polls_overdue(connection, now),
        unanswered_since(connection, now),
    )


def _count(connection: Connection, lanes: Collection[str], state: State) -> int:
    if not lanes:
        return 0
    some = (
        select(OutboxRow.id)
        .where(OutboxRow.lane.in_(lanes), OutboxRow.state == state)
        .limit(MOST_COUNTED)
        .subquery()
    )
    return int(connection.scalar(select(func.count()).select_from(some)) or 0)


def _other_lanes(connection: Connection, lanes: Collection[str]) -> list[str]:
    """Lanes that nobody works on. The index is leapt over, from one lane to the next."""
    found: list[str] = []
    lane = connection.scalar(select(func.min(OutboxRow.lane)))
    while lane is not None and len(found) < _MOST_OTHER_LANES:
        if lane not in lanes:
            found.append(lane)
        lane = connection.scalar(select(func.min(OutboxRow.lane)).where(OutboxRow.lane > lane))
    return found


@dataclass(frozen=True, slots=True)
class Vain:
    """What is tried in vain in a lane: since when the oldest of it is owed, and how the last try ended."""

    since: datetime
    last_error: str


def tried_in_vain(connection: Connection, lane: str) -> Vain | None:
    """What is owed in a lane, was tried and will be tried again; None when nothing is.

    A try that ended with our key being refused is not charged, and counts here all the same.
    """
    tried = or_(OutboxRow.attempts > 0, OutboxRow.last_error.startswith(REFUSED, autoescape=True))
    row = connection.execute(
        select(OutboxRow.created_at, OutboxRow.last_error)
        .where(OutboxRow.lane == lane, OutboxRow.state == State.DUE, tried)
        .where(OutboxRow.last_error != "")
        .order_by(OutboxRow.created_at)
        .limit(1)
    ).first()
    return None if row is None else Vain(row.created_at, row.last_error)


def overdue_since(connection: Connection, lane: str, spool_id: str, now: datetime) -> datetime | None:
    """Since when the oldest thing is due in a lane that nobody works on."""
    file_spool = select(FileRow.spool_id).where(FileRow.id == OutboxRow.file_fk).scalar_subquery()
    rows = connection.execute(
        select(OutboxRow.next_attempt_at, OutboxRow.lease_until, file_spool)
        .where(OutboxRow.lane == lane, OutboxRow.state == State.DUE, OutboxRow.next_attempt_at < now)
        .order_by(OutboxRow.next_attempt_at)
        .limit(_DUE_LOOKED_AT)
    )
    return next(
        (
            due_at
            for due_at, lease_until, only_on in rows
            if (lease_until is None or lease_until < now) and only_on in (None, spool_id)
        ),
        None,
    )


def _polls_overdue(connection: Connection, now: datetime) -> dict[str, datetime]:
    """By provider, since when the first subject is due that nobody is asking about."""
    found: dict[str, datetime] = {}
    provider = connection.scalar(select(func.min(PollRow.provider)))
    while provider is not None:
        rows = connection.execute(
            select(PollRow.next_at, PollRow.lease_until)
            .where(PollRow.provider == provider, PollRow.next_at < now)
            .order_by(PollRow.next_at)
            .limit(_DUE_LOOKED_AT)
        )
        free = (due_at for due_at, lease_until in rows if lease_until is None or lease_until < now)
        if (since := next(free, None)) is not None:
            found[provider] = since
        provider = connection.scalar(select(func.min(PollRow.provider)).where(PollRow.provider > provider))
    return found

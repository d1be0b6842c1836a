"""What providers are asked about: which subjects there are, when each is due, and who asks now.

Every function works inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, delete, exists, func, null, or_, select, update

from shared.db.dialect import insert_missing
from shared.db.models import Document, PollRow, document_key
from shared.errors import LeaseLostError
from shared.events import DocumentStatus
from shared.providers import AnyProvider
from shared.providers._asking import WISH
from shared.providers._base import Ask, DocumentView, Polled, PollView

_NOT_LEASED: dict[str, Any] = {"lease_until": None, "leased_by": ""}
_MOST_OPEN_WISHES = 10_000
"""Subjects of one provider that nobody has asked about yet; more than that no browsers bring honestly."""


@dataclass(frozen=True, slots=True)
class LeasedPoll:
    """One subject that this process asks about now."""

    id: int
    view: PollView
    due_at: datetime
    wishes: int
    failures: int
    leased_by: str


def begin(
    connection: Connection,
    provider: str,
    asks: Iterable[Ask],
    now: datetime,
    *,
    stranger: bool = False,
) -> None:
    """Have subjects asked about: new ones are added, known ones are due again, at once or when they say.

    What was asked no more is taken up again, and what is being asked about just now is asked once more. Of
    subjects that a `stranger` named, no new ones are added while thousands wait that were never asked about.
    """
    for ask in asks:
        due_at = now + timedelta(seconds=ask.after_seconds)
        key = document_key(ask.subject)
        if not (stranger and _too_many_waiting(connection, provider)):
            insert_missing(connection, PollRow, [_new_row(provider, key, ask, due_at, now)])
        row = connection.execute(
            select(PollRow.id, PollRow.memory)
            .where(PollRow.provider == provider, PollRow.key == key)
            .with_for_update()
        ).one_or_none()
        if row is None:
            continue
        connection.execute(
            update(PollRow)
            .where(PollRow.id == row.id)
            .values(
                memory={**row.memory, **ask.memory},
                next_at=case((PollRow.next_at < due_at, PollRow.next_at), else_=due_at),
                wishes=PollRow.wishes + 1,
                **({} if ask.expires_at is None else {"expires_at": ask.expires_at}),
            )
        )


def _too_many_waiting(connection: Connection, provider: str) -> bool:
    waiting = select(PollRow.id).where(PollRow.provider == provider, _never_asked()).limit(_MOST_OPEN_WISHES)
    return connection.scalar(select(func.count()).select_from(waiting.subquery())) == _MOST_OPEN_WISHES


def _never_asked() -> ColumnElement[bool]:
    return and_(PollRow.next_at.is_not(None), PollRow.asked_at.is_(None))


def _new_row(provider: str, key: str, ask: Ask, due_at: datetime, now: datetime) -> dict[str, Any]:
    return {
        "provider": provider,
        "key": key,
        "subject": ask.subject,
        "memory": dict(ask.memory),
        "next_at": due_at,
        "expires_at": ask.expires_at,
        "wishes": 0,
        "failures": 0,
        "note": "",
        "leased_by": "",
        "created_at": now,
    }


def keep(connection: Connection, provider: str, asks: Iterable[Ask], now: datetime) -> None:
    """Have subjects asked about from now on; one that is asked about already keeps its time and what is
    known of it, and learns what is new."""
    for ask in asks:
        due_at = now + timedelta(seconds=ask.after_seconds)
        key = document_key(ask.subject)
        insert_missing(connection, PollRow, [_new_row(provider, key, ask, due_at, now)])
        connection.execute(
            update(PollRow)
            .where(PollRow.provider == provider, PollRow.key == key, PollRow.next_at.is_(None))
            .values(next_at=due_at)
        )
        if ask.memory:
            _tell(connection, provider, key, ask.memory)


def _tell(connection: Connection, provider: str, key: str, memory: Mapping[str, str]) -> None:
    row = connection.execute(
        select(PollRow.id, PollRow.memory)
        .where(PollRow.provider == provider, PollRow.key == key)
        .with_for_update()
    ).one()
    if not memory.keys() <= row.memory.keys():
        connection.execute(
            update(PollRow).where(PollRow.id == row.id).values(memory={**memory, **row.memory})
        )


def end_final(connection: Connection, provider: str, keys: Collection[str]) -> None:
    """Ask no more about those of these documents whose signing is over, unless a person wishes it.

    What is being asked about just now is asked no more afterwards.
    """
    rows = connection.execute(
        select(PollRow.id, PollRow.memory, Document.status)
        .join(Document, and_(Document.provider == PollRow.provider, Document.key == PollRow.key))
        .where(
            PollRow.provider == provider,
            PollRow.key.in_(sorted(keys)),
            PollRow.next_at.is_not(None),
            Document.status.in_([status for status in DocumentStatus if status.is_final]),
        )
        .order_by(PollRow.key)
        .with_for_update(of=PollRow)
    ).all()
    for row in rows:
        if WISH not in row.memory:
            connection.execute(
                update(PollRow).where(PollRow.id == row.id).values(next_at=None, note=f"over: {row.status}")
            )


def keep_documents(connection: Connection, provider: AnyProvider, now: datetime) -> None:
    """At the start: documents whose signing is not over are asked about, if the settings say so now."""
    rows = connection.execute(
        select(Document.document_id, Document.refs, Document.learned).where(
            Document.provider == provider.name,
            Document.status.in_([status for status in DocumentStatus if not status.is_final]),
            ~exists().where(PollRow.provider == Document.provider, PollRow.key == Document.key),
        )
    )
    asks = (provider.document_ask(DocumentView(*row)) for row in rows)
    keep(connection, provider.name, [ask for ask in asks if ask is not None], now)


def lease(
    connection: Connection,
    provider: str,
    limit: int,
    *,
    leased_by: str,
    now: datetime,
    lease_seconds: float,
    place_seconds: float = 0.0,
    busy: Collection[int] = (),
) -> list[LeasedPoll]:
    """Take what is due: what expires soonest first, then what has been due longest.

    What is taken is not due again for `place_seconds`, whatever becomes of us: of a subject that may be asked
    about once a day, a death uses the day's place.
    """
    rows = connection.execute(
        select(PollRow.__table__)
        .where(PollRow.provider == provider, _is_free(now), PollRow.id.not_in(busy))
        .order_by(PollRow.expires_at.is_(None), PollRow.expires_at, PollRow.next_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    if not rows:
        return []
    connection.execute(
        update(PollRow)
        .where(PollRow.id.in_([row.id for row in rows]))
        .values(
            lease_until=now + timedelta(seconds=lease_seconds),
            leased_by=leased_by,
            **({"next_at": now + timedelta(seconds=place_seconds)} if place_seconds else {}),
        )
    )
    # Asked for by themselves, since PostgreSQL locks no row that an outer join may lack.
    statuses = connection.execute(
        select(Document.key, Document.status).where(
            Document.provider == provider, Document.key.in_([row.key for row in rows])
        )
    )
    known = {key: DocumentStatus(status) for key, status in statuses}
    return [
        LeasedPoll(
            id=row.id,
            view=PollView(
                row.subject, row.memory, now, row.asked_at, known.get(row.key), begun_at=row.created_at
            ),
            due_at=row.next_at,
            wishes=row.wishes,
            failures=row.failures,
            leased_by=leased_by,
        )
        for row in rows
    ]


def _is_free(now: datetime) -> ColumnElement[bool]:
    return and_(
        PollRow.next_at <= now,
        or_(PollRow.lease_until.is_(None), PollRow.lease_until < now),
    )


def renew(connection: Connection, leased: LeasedPoll, *, now: datetime, lease_seconds: float) -> bool:
    """Keep what is still being asked about; False when another process has taken it over."""
    renewed = connection.execute(
        update(PollRow)
        .where(_still_leased(leased))
        .values(lease_until=now + timedelta(seconds=lease_seconds))
    )
    return bool(renewed.rowcount)


def finish(connection: Connection, leased: LeasedPoll, polled: Polled, now: datetime) -> None:
    """It was asked, and what was found lies in the spool: note when to ask again.

    Raises:
        LeaseLostError: another process has taken it over.
    """
    again_at = None if polled.again_seconds is None else now + timedelta(seconds=polled.again_seconds)
    row = connection.execute(
        select(PollRow.wishes, PollRow.memory, PollRow.next_at)
        .where(PollRow.id == leased.id)
        .with_for_update()
    ).one()
    values: dict[str, Any] = {"asked_at": now, "failures": 0, "note": polled.note}
    if polled.memory is not None:
        told = {name: text for name, text in row.memory.items() if leased.view.memory.get(name) != text}
        values["memory"] = {**polled.memory, **told}
    if polled.expires_at is not None:
        values["expires_at"] = polled.expires_at
    # While it was being asked it may have ended, or somebody may have wished it asked, and told something.
    if row.next_at is None:
        again_at = None
    elif row.wishes != leased.wishes:
        wished_at = max(row.next_at, now)
        again_at = wished_at if again_at is None else min(again_at, wished_at)
    _update(connection, leased, next_at=again_at, **values)


def put_off(
    connection: Connection, leased: LeasedPoll, reason: str, *, now: datetime, delay_seconds: float
) -> None:
    """It could not be asked: later.

    Raises:
        LeaseLostError: another process has taken it over.
    """
    later = now + timedelta(seconds=delay_seconds)
    _update(connection, leased, next_at=_unless_ended(later), failures=PollRow.failures + 1, note=reason)


def give_back(connection: Connection, leased: LeasedPoll, reason: str | None = None) -> None:
    """It was not asked, and is not to blame for that: it stays due, and keeps its place.

    Raises:
        LeaseLostError: another process has taken it over.
    """
    due_at = case((PollRow.next_at < leased.due_at, PollRow.next_at), else_=leased.due_at)
    _update(connection, leased, next_at=_unless_ended(due_at), **({} if reason is None else {"note": reason}))


def release_leases(connection: Connection, leased_by: str) -> None:
    """At the start: what the process before us was asking about is due again."""
    connection.execute(update(PollRow).where(PollRow.leased_by == leased_by).values(**_NOT_LEASED))


def forget_ended(connection: Connection, before: datetime) -> None:
    """Drop what is asked no more and was asked, or begun, longest ago."""
    last = func.coalesce(PollRow.asked_at, PollRow.created_at)
    connection.execute(delete(PollRow).where(PollRow.next_at.is_(None), last < before))


def next_due_at(connection: Connection, provider: str) -> datetime | None:
    """When the next subject of a provider is due, whoever is asking about it."""
    return connection.scalar(select(func.min(PollRow.next_at)).where(PollRow.provider == provider))


def count_open(connection: Connection, provider: str, now: datetime) -> int:
    """How many subjects of a provider are asked about as often as can be; of those that expired, few are."""
    lasting = or_(PollRow.expires_at.is_(None), PollRow.expires_at > now)
    found = connection.scalar(
        select(func.count())
        .select_from(PollRow)
        .where(PollRow.provider == provider, PollRow.next_at.is_not(None), lasting)
    )
    return found or 0


def count_noted(connection: Connection, provider: str, beginning: str) -> int:
    """How many subjects that are asked about have a note that begins so."""
    found = connection.scalar(
        select(func.count())
        .select_from(PollRow)
        .where(
            PollRow.provider == provider,
            PollRow.next_at.is_not(None),
            PollRow.note.startswith(beginning, autoescape=True),
        )
    )
    return found or 0


def is_known(connection: Connection, provider: str, subject: str) -> bool:
    """Whether a subject was ever asked about, or is a document."""
    key = document_key(subject)
    polled = exists().where(PollRow.provider == provider, PollRow.key == key)
    registered = exists().where(Document.provider == provider, Document.key == key)
    return bool(connection.scalar(select(or_(polled, registered))))


def listing(connection: Connection, provider: str | None, limit: int) -> list[dict[str, Any]]:
    """What is asked about, what is due first in front, and what is asked no more at the end."""
    query = select(PollRow.__table__)
    if provider is not None:
        query = query.where(PollRow.provider == provider)
    rows = connection.execute(
        query.order_by(PollRow.next_at.is_(None), PollRow.next_at, PollRow.id).limit(limit)
    ).mappings()
    shown = ("provider", "subject", "next_at", "asked_at", "expires_at", "failures", "note")
    return [{name: row[name] for name in shown} for row in rows]


def _unless_ended(due_at: ColumnElement[datetime] | datetime) -> ColumnElement[datetime | None]:
    """When to ask next about what may have come to its end while it was being asked about."""
    return case((PollRow.next_at.is_(None), null()), else_=due_at)


def _still_leased(leased: LeasedPoll) -> ColumnElement[bool]:
    return and_(
        PollRow.id == leased.id,
        PollRow.leased_by == leased.leased_by,
        PollRow.lease_until.is_not(None),
    )


def _update(connection: Connection, leased: LeasedPoll, **values: Any) -> None:
    changed = connection.execute(update(PollRow).where(_still_leased(leased)).values(**values, **_NOT_LEASED))
    if not changed.rowcount:
        raise LeaseLostError(f"{leased.view.subject[:80]!r} is being asked about by another processor")

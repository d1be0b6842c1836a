"""Since when providers are silent: who called back last, and who leaves unanswered what it is asked."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, func, or_, select

from shared.db.models import Document, EventRow, PollRow
from shared.events import Origin
from shared.providers import AnyProvider
from shared.settings import CheckSettings

Of = Literal["callbacks", "polls"]

EVENTS_AT_ONCE = 10_000
_MOST_LOOKS = 100
_CALLS = (Origin.CALLBACK, Origin.HAND)
"""What providers send us themselves, files that the vendor's own product writes among it."""


def silence_limits(limits: CheckSettings, providers: Iterable[AnyProvider]) -> dict[tuple[str, Of], float]:
    """How many seconds each provider may send no callback, or leave polls unanswered, if that is limited."""
    found: dict[tuple[str, Of], float] = {}
    for provider in providers:
        if provider.expects_callbacks:
            found[provider.name, "callbacks"] = limits.silence_of(provider.name)
        if provider.polls:
            found[provider.name, "polls"] = limits.poll_silence_of(provider.name)
    return {key: seconds for key, seconds in found.items() if seconds}


def last_callbacks(
    connection: Connection, wanted: Collection[str], *, since: datetime
) -> dict[str, datetime]:
    """When the last callback of each wanted provider was received; those without any are left out.

    The newest events are looked at first, some thousands at once, and no more of them than it takes: it ends
    at events that were recorded before `since`, and after a million.
    """
    found: dict[str, datetime] = {}
    upper = connection.scalar(select(func.max(EventRow.id))) or 0
    for _ in range(_MOST_LOOKS):
        newest_at = None
        for provider, is_call, received_at, recorded_at in _newest(connection, upper):
            if is_call:
                found[provider] = max(received_at, found.get(provider, received_at))
            newest_at = max(recorded_at, newest_at or recorded_at)
        upper -= EVENTS_AT_ONCE
        if upper <= 0 or found.keys() >= set(wanted) or (newest_at is not None and newest_at < since):
            break
    return {provider: at for provider, at in found.items() if provider in wanted}


def _newest(connection: Connection, upper: int) -> list[tuple[str, bool, datetime, datetime]]:
    """Of the events up to an id: provider, whether it called us, when it was last received and recorded."""
    is_call = EventRow.origin.in_(_CALLS)
    rows = connection.execute(
        select(
            Document.provider,
            is_call.label("is_call"),
            func.max(EventRow.received_at),
            func.max(EventRow.recorded_at),
        )
        .join(Document, Document.id == EventRow.document_fk)
        .where(EventRow.id > upper - EVENTS_AT_ONCE, EventRow.id <= upper)
        .group_by(Document.provider, is_call)
    )
    return [(row[0], bool(row[1]), row[2], row[3]) for row in rows]


def unanswered_since(connection: Connection, now: datetime) -> dict[str, datetime]:
    """By provider, since when it has left unanswered what it is asked; of those that have left nothing so,
    nothing.

    It counts from its last answer, or from when it was first to be asked what waits now, if that was later.
    """
    is_waiting = or_(PollRow.next_at < now, PollRow.failures > 0)
    waiting = (
        select(PollRow.provider, func.min(PollRow.created_at).label("since"))
        .where(PollRow.next_at.is_not(None), is_waiting)
        .group_by(PollRow.provider)
        .subquery()
    )
    answered = select(func.max(PollRow.asked_at)).where(PollRow.provider == waiting.c.provider)
    rows = connection.execute(select(waiting.c.provider, waiting.c.since, answered.scalar_subquery()))
    return {row[0]: max(row[1], row[2] or row[1]) for row in rows}

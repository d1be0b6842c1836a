"""What there is to see of providers that are asked: what was confirmed when, and the calls of a quota."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import func, select

from processor.budget import Span
from processor.documents import iso
from shared.db.models import CallRow, Document, FileRow
from signspool.demo.script import Cast
from signspool.demo.stage import Stage


@dataclass(frozen=True, slots=True)
class Confirmation:
    """One update that was confirmed to its provider; the times are ISO 8601 in UTC.

    `stored_at` is when the last signed file of the document was stored, None for an update without files and
    when none was; `confirmed_at` is when the provider heard of it.
    """

    provider: str
    document_id: str
    status: str
    stored_at: str | None
    confirmed_at: str


@dataclass(frozen=True, slots=True)
class Quota:
    """The calls of this month that one account has booked, those it may make, and those that came there."""

    provider: str
    booked: int
    limit: int
    arrived: int


def confirmations(stage: Stage, cast: Cast) -> Iterator[Confirmation]:
    """What the simulated provider took down as confirmed, beside what our database says of the files."""
    newest = (
        select(Document.provider, Document.document_id, func.max(FileRow.fetched_at).label("stored_at"))
        .join(FileRow, FileRow.document_fk == Document.id)
        .group_by(Document.id)
    )
    with stage.database.reading() as connection:
        stored = {(row.provider, row.document_id): row.stored_at for row in connection.execute(newest)}
    for act in cast.acts:
        for document_id, status, confirmed_at, has_files in act.confirmed():
            stored_at = iso(stored.get((act.provider, document_id))) if has_files else None
            yield Confirmation(act.provider, document_id, status, stored_at, str(iso(confirmed_at)))


def quotas(stage: Stage, cast: Cast) -> Iterator[Quota]:
    """Of every account whose calls are counted."""
    for act in cast.acts:
        if act.calls_per_month is None:
            continue
        booked = select(func.sum(CallRow.calls)).where(
            CallRow.account == act.provider, CallRow.span == Span.MONTH
        )
        with stage.database.reading() as connection:
            calls = int(connection.scalar(booked) or 0)
        yield Quota(act.provider, calls, act.calls_per_month, len(cast.world.requests_to(act.provider)))

"""What `signspool check` finds in the database: its schema and clock, and what waits for a person there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import Connection, func, select

from processor.operator import owed_by_state
from shared.clock import Clock
from shared.db.models import Document, OutboxRow, State
from shared.db.session import SCHEMA, Database
from shared.errors import UnavailableError
from shared.settings import Settings
from signspool.context import database_of
from signspool.finding import Finding, fail, ok, warn
from signspool.output import age_text, count_text, shortened

SKEW_WARN_SECONDS = 5.0
"""As much as another clock may differ; leases and time stamps in proofs go by clocks."""
SKEW_FAIL_SECONDS = 60.0


def recorded(settings: Settings, clock: Clock) -> Iterator[Finding]:
    """Look at the database."""
    where = settings.database_url.render_as_string(hide_password=True)
    try:
        with database_of(settings) as database:
            ahead_seconds = _ahead_seconds(database, clock)
            with database.reading() as connection:
                owed = owed_by_state(connection)
                orphans = _orphans(connection)
                unregistered = _unregistered(connection)
    except (UnavailableError, OSError) as error:
        yield fail("database", f"{where}: {error}")
        return
    yield ok("database", f"{where}, schema {SCHEMA} as needed")
    if ahead_seconds is not None:
        yield skew("clock of the database", ahead_seconds)
    for state in ("held", "failed"):
        if owed.get(state):
            yield warn(
                "deliveries",
                f"{count_text(owed[state], 'delivery')} {state}",
                f"signspool deliveries ls --state {state}",
            )
    for destination, count in orphans:
        yield warn(
            "deliveries",
            f"{count_text(count, 'delivery')} waiting for {destination}, which is in no setting any more",
            "put it back into the settings, or look: "
            f"signspool deliveries ls --state waiting --destination {destination}",
        )
    if unregistered is not None:
        yield _waiting(unregistered, clock)


def skew(about: str, ahead_seconds: float, *, may_fail: bool = True) -> Finding:
    """What is to be said of a clock that is so far ahead of ours."""
    text = f"{abs(ahead_seconds):.0f} s {'ahead of' if ahead_seconds > 0 else 'behind'} this machine's"
    if abs(ahead_seconds) < SKEW_WARN_SECONDS:
        return ok(about, "agrees with this machine's")
    advice = "set both by a time service"
    is_bad = may_fail and abs(ahead_seconds) >= SKEW_FAIL_SECONDS
    return (fail if is_bad else warn)(about, text, advice)


def _ahead_seconds(database: Database, clock: Clock) -> float | None:
    """Seconds by which the database's clock is ahead of ours; SQLite goes by ours."""
    if database.is_sqlite:
        return None
    with database.reading() as connection:
        before = clock.now()
        theirs: datetime | None = connection.scalar(select(func.clock_timestamp()))
        between = before + (clock.now() - before) / 2
    return (theirs - between).total_seconds() if theirs is not None else None


def _orphans(connection: Connection) -> list[tuple[str, int]]:
    """The peers that are owed something and are in no setting any more, and how many things each."""
    rows = connection.execute(
        select(OutboxRow.destination, func.count())
        .where(OutboxRow.state == State.WAITING, OutboxRow.last_error.startswith("not configured any more"))
        .group_by(OutboxRow.destination)
        .order_by(OutboxRow.destination)
    )
    return [(row[0], row[1]) for row in rows]


def _unregistered(connection: Connection) -> tuple[int, str, str, datetime] | None:
    """How many documents wait that nobody registered; provider, id and begin of the one longest waiting."""
    waiting = (
        select(Document.provider, Document.document_id, func.min(OutboxRow.created_at).label("since"))
        .join(OutboxRow, OutboxRow.document_fk == Document.id)
        .where(OutboxRow.state == State.WAITING, Document.registered_at.is_(None))
        .group_by(Document.id, Document.provider, Document.document_id)
    )
    count = connection.scalar(select(func.count()).select_from(waiting.subquery())) or 0
    oldest = connection.execute(waiting.order_by("since").limit(1)).first()
    return None if oldest is None else (count, oldest.provider, oldest.document_id, oldest.since)


def _waiting(unregistered: tuple[int, str, str, datetime], clock: Clock) -> Finding:
    count, provider, document_id, since = unregistered
    age = age_text((clock.now() - since).total_seconds())
    return warn(
        "registrations",
        f"{count_text(count, 'document')} that nobody registered wait, {provider} {shortened(document_id)} "
        f"for {age}",
        "signspool documents register, or look: signspool deliveries ls --state waiting",
    )

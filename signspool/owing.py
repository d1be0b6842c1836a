"""What `signspool check` finds of what is owed to providers and destinations, and is tried for too long."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection

from processor.figures import overdue_since, tried_in_vain
from processor.parts import lane_names
from shared.errors import UnavailableError
from shared.settings import Settings
from shared.settings.units import format_duration
from shared.spool import Spool
from signspool.context import database_of
from signspool.finding import Finding, fail
from signspool.output import age_text, printable


def owing(settings: Settings, spool: Spool) -> Iterator[Finding]:
    """Look at the oldest thing in each lane that is tried in vain, or due and not tried at all."""
    limit = settings.check.delivery_age
    if not limit:
        return
    try:
        with database_of(settings) as database, database.reading() as connection:
            for lane in lane_names(settings):
                yield from _late(connection, lane, spool, limit)
    except (UnavailableError, OSError):
        # The finding about the database says it.
        return


def _late(connection: Connection, lane: str, spool: Spool, limit_seconds: float) -> Iterator[Finding]:
    now = spool.clock.now()
    kind, _, name = lane.partition(":")
    look = f"signspool deliveries ls --state due --destination {name or kind}"
    longer = f"longer than {format_duration(limit_seconds)}"
    about = f"owed to {kind} {name}".rstrip()
    vain = tried_in_vain(connection, lane)
    if vain is not None and (seconds := (now - vain.since).total_seconds()) > limit_seconds:
        text = f"tried in vain for {age_text(seconds)}, {longer}; last: {printable(vain.last_error)}"
        yield fail(about, text, f"{look}, and mend it over there or in the settings; it goes on by itself")
        return
    since = overdue_since(connection, lane, spool.id(), now)
    if since is not None and (seconds := (now - since).total_seconds()) > limit_seconds:
        text = f"due for {age_text(seconds)} and not tried, {longer}"
        yield fail(about, text, f"is the processor running? {look}")

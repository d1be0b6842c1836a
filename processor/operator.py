"""What the commands ask of the daemon's tables, and do there, beside a daemon that runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, RowMapping, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from processor import deliveries, polls
from processor.access import REFUSED
from processor.deliveries import Wanted
from processor.documents import Registration, outbox_item, outbox_query, register
from processor.owed import provider_lane
from shared.clock import utc_now
from shared.db.models import EventRow, OutboxRow, State, Task
from shared.db.session import Database
from shared.errors import DatabaseUnavailableError
from shared.providers import AnyProvider
from shared.settings import MirrorSettings
from shared.spool import Spool

_AT_ONCE = 500
"""Rows named in one statement, well below what any database takes."""
_REGISTRATIONS_AT_ONCE = 1000
_EXPLAINING = frozenset({"sqlite", "postgresql", "mysql", "mariadb"})
"""Databases whose EXPLAIN prepares a statement without executing it."""

T = TypeVar("T")


def why_unfinished(connection: Connection, receipt_ids: Collection[str]) -> dict[str, str]:
    """Why entries are not finished, in a line each, by receipt id; those that owe nothing are left out."""
    found: dict[str, list[str]] = {}
    for part in _parts(list(receipt_ids), _AT_ONCE):
        rows = connection.execute(
            select(
                EventRow.receipt_id,
                OutboxRow.id,
                OutboxRow.task,
                OutboxRow.lane,
                OutboxRow.state,
                OutboxRow.next_attempt_at,
                OutboxRow.last_error,
            )
            .join(EventRow, EventRow.id == OutboxRow.event_fk)
            .where(EventRow.receipt_id.in_(part), OutboxRow.state != State.DONE)
            .order_by(OutboxRow.id)
        ).mappings()
        for row in rows:
            found.setdefault(row["receipt_id"], []).append(_why(row))
    return {
        receipt_id: reasons[0] + (f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else "")
        for receipt_id, reasons in found.items()
    }


def _why(row: RowMapping) -> str:
    state = row["state"]
    if state == State.DUE:
        state = f"due {row['next_attempt_at'].isoformat(timespec='seconds')}"
    said = f": {row['last_error']}" if row["last_error"] else ""
    return f"delivery {row['id']}, {row['task']} ({row['lane']}), {state}{said}"


def owed_by_state(connection: Connection) -> dict[str, int]:
    """How many things are owed in each state but done."""
    rows = connection.execute(
        select(OutboxRow.state, func.count()).where(OutboxRow.state != State.DONE).group_by(OutboxRow.state)
    )
    return {row[0]: row[1] for row in rows}


def count_refused(connection: Connection, provider: str) -> int:
    """How many things wait for a provider only because it does not accept our own key."""
    owed = connection.scalar(
        select(func.count())
        .select_from(OutboxRow)
        .where(
            OutboxRow.lane == provider_lane(provider),
            OutboxRow.state == State.DUE,
            OutboxRow.last_error.startswith(REFUSED, autoescape=True),
        )
    )
    return (owed or 0) + polls.count_noted(connection, provider, REFUSED)


@dataclass(frozen=True, slots=True)
class Retried:
    """What a retry found: what is started afresh, and what is left alone since it is done or in work."""

    afresh: list[dict[str, Any]]
    left_alone: list[dict[str, Any]]


def retry(
    database: Database, spool: Spool, wanted: Wanted, now: datetime, *, dry_run: bool = False
) -> Retried:
    """Start afresh what a person means, and bring the files of its entries back from quarantine.

    Raises:
        UnavailableError: spool or database are away; repeating the command is safe.
    """
    with database.transaction() as connection:
        rows = connection.execute(wanted.narrow(outbox_query()).order_by(OutboxRow.id)).mappings().all()
    free = [row for row in rows if _is_free(row, now)]
    for part in _parts([row["id"] for row in free], _AT_ONCE) if not dry_run else ():
        with database.transaction() as connection:
            # The files come back before the commit that lets a daemon see the rows. The other way round it
            # could finish a delivery, and settle its entry, before the file is where it looks for it.
            deliveries.bring_back(spool, deliveries.retry(connection, part, now))
    return Retried(
        [outbox_item(row) for row in free],
        [outbox_item(row) for row in rows if not _is_free(row, now)],
    )


def refetch(database: Database, wanted: Wanted, now: datetime, *, dry_run: bool = False) -> Retried:
    """Have the files of undone deliveries fetched once more, from the provider to whichever machine comes
    first; those of a machine that is gone for good can be delivered no other way.

    Raises:
        DatabaseUnavailableError: the database is away; repeating the command is safe.
    """
    undone = wanted.narrow(outbox_query()).where(
        OutboxRow.task == Task.DELIVER, OutboxRow.state != State.DONE
    )
    with database.transaction() as connection:
        rows = connection.execute(undone.order_by(OutboxRow.id)).mappings().all()
    free = [row for row in rows if _is_free(row, now)]
    for part in _parts([row["id"] for row in free], _AT_ONCE) if not dry_run else ():
        with database.transaction() as connection:
            deliveries.fetch_again(connection, part, now)
    return Retried(
        [outbox_item(row) for row in free],
        [outbox_item(row) for row in rows if not _is_free(row, now)],
    )


def _is_free(row: RowMapping, now: datetime) -> bool:
    return row["state"] != State.DONE and (row["lease_until"] is None or row["lease_until"] < now)


def register_all(
    database: Database,
    registrations: Sequence[Registration],
    now: datetime,
    providers: Mapping[str, AnyProvider],
) -> Counter[str]:
    """Note registrations, a thousand in a transaction; returns how many were new, changed, unchanged.

    Raises:
        DatabaseUnavailableError: the database is away; importing the same again is safe.
    """
    counts: Counter[str] = Counter()
    for part in _parts(registrations, _REGISTRATIONS_AT_ONCE):
        with database.transaction() as connection:
            counts.update(register(connection, registration, now, providers) for registration in part)
    return counts


def why_mirror_fails(mirror: MirrorSettings) -> str | None:
    """Why the company's own table cannot be told of a status, or None. The statement is not executed."""
    database = Database(mirror.url.get_secret_value())
    try:
        if database.is_sqlite and not Path(database.url.database or "").exists():
            return f"{database.url.database} is not there: correct url under [database.mirror]"
        with database.transaction() as connection:
            if database.url.get_backend_name() in _EXPLAINING:
                statement = text(f"EXPLAIN {mirror.statement}")
                values = {name: _sample(name) for name in statement.compile().params}
                connection.execute(statement, values).close()
    except DatabaseUnavailableError as error:
        return f"{error}: correct url under [database.mirror]"
    except SQLAlchemyError as error:
        said = str(getattr(error, "orig", None) or type(error).__name__).partition("\n")[0]
        return f"the statement cannot be prepared: {said[:200]}"
    finally:
        database.close()
    return None


def _sample(name: str) -> object:
    return utc_now() if name == "occurred_at" else ""


def _parts(items: Sequence[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part

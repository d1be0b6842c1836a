"""Erases what is personal of one document, on request, and keeps what proves that it was handled.

What stays: the document's id, statuses and times; of each callback its digest, trust and outcome; of each
file its digest and size. Everything is done so that a repetition finishes what an interruption left.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select, update

from processor.daylists import ERASED_SUFFIX
from processor.documents import outbox_item, outbox_query
from processor.ordered import erase_orders
from shared.db.models import Document, EventRow, FileRow, OutboxRow, State, Task, document_key
from shared.db.session import Database
from shared.errors import DatabaseUnavailableError, UsageError
from shared.events import EventType
from shared.names import encode_id
from shared.record import SpoolRecord, digest_of
from shared.spool import Entry, Folder, Spool, sync_folder, unavailable, write_small

ERASED = "(erased)"
"""What stands in the history for a provider's word that nobody knows."""


@dataclass(frozen=True, slots=True)
class Traces:
    """What the database knows of one document.

    `files` are paths under the spool's `files/`, `elsewhere` entries and files that lie on other nodes,
    `owed` outbox rows that are not done, and `copies` deliveries that are, as `deliveries ls` prints them.
    """

    document_fk: int
    status: str
    erased_at: datetime | None
    files: list[str]
    elsewhere: list[str]
    owed: list[dict[str, Any]]
    copies: list[dict[str, Any]]
    is_in_work: bool


def traces(
    connection: Connection, provider: str, document_id: str, *, spool_id: str, now: datetime
) -> Traces | None:
    """What is known of a document; None when nothing is. Its row is locked until the transaction ends."""
    row = connection.execute(
        select(Document.id, Document.status, Document.erased_at)
        .where(Document.provider == provider, Document.key == document_key(document_id))
        .with_for_update()
    ).first()
    if row is None:
        return None
    files = connection.execute(
        select(FileRow.path, FileRow.spool_id).where(FileRow.document_fk == row.id, FileRow.path != "")
    ).all()
    entries = connection.execute(
        select(EventRow.day, EventRow.name)
        .where(EventRow.document_fk == row.id, EventRow.spool_id != spool_id)
        .distinct()
    ).all()
    owed = connection.execute(outbox_query().where(OutboxRow.document_fk == row.id).order_by(OutboxRow.id))
    rows = owed.mappings().all()
    return Traces(
        document_fk=row.id,
        status=row.status,
        erased_at=row.erased_at,
        files=[path for path, where in files if where == spool_id],
        elsewhere=[
            *(f"{day}/{name}" for day, name in entries),
            *(f"files/{path}" for path, where in files if where != spool_id),
        ],
        owed=[outbox_item(row) for row in rows if row["state"] != State.DONE],
        copies=[
            outbox_item(row) for row in rows if row["state"] == State.DONE and row["task"] == Task.DELIVER
        ],
        is_in_work=any(row["lease_until"] is not None and row["lease_until"] > now for row in rows),
    )


def stop_work(
    database: Database,
    provider: str,
    document_id: str,
    *,
    spool_id: str,
    now: datetime,
    give_up: bool,
) -> Traces | None:
    """See to it that nobody works on a document any more; what is still owed is given up when told so.

    Raises:
        UsageError: something is owed, or being worked on at this moment; the message says what to do.
        DatabaseUnavailableError: the database is away.
    """
    with database.transaction() as connection:
        found = traces(connection, provider, document_id, spool_id=spool_id, now=now)
        if found is None:
            return None
        if found.is_in_work:
            raise UsageError("it is being worked on at this moment: try again in a minute")
        if found.owed and not give_up:
            first = found.owed[0]
            raise UsageError(
                f"{first['task']} ({first['destination']}) is still owed, {first['state']}: wait for it, or "
                f"give up what is owed with --give-up. Look: signspool documents show {provider} ID"
            )
        connection.execute(
            delete(OutboxRow).where(OutboxRow.document_fk == found.document_fk, OutboxRow.state != State.DONE)
        )
    return found


def erase_entry(spool: Spool, folder: Folder, entry: Entry, data: bytes, record: SpoolRecord | None) -> None:
    """Delete one entry; of a finished one a note stays, by which the lists of digests are explained.

    Without `record` it is a damaged one.

    Raises:
        SpoolUnavailableError: it cannot be deleted.
    """
    if folder is Folder.DONE:
        path = spool.path(folder, entry)
        note = path.with_name(path.name.removesuffix(".json") + ERASED_SUFFIX)
        receipt = record.receipt if record else None
        content = {
            "erasedAt": spool.clock.local().isoformat(timespec="seconds"),
            "name": entry.name,
            "sha256": digest_of(data),
            "bytes": len(data),
            "receivedAt": record.received_at.isoformat() if record else None,
            "payloadSha256": digest_of(record.payload) if record else None,
            "receiptId": receipt.id if receipt else None,
            "trust": receipt.trust if receipt else None,
            "verdict": "done",
        }
        with unavailable(f"write {note.name}", gone_too=True):
            write_small(note, json.dumps(content, indent=2) + "\n")
            sync_folder(note.parent)
    spool.remove(entry, folder)


def erase_rows_and_files(
    database: Database, spool: Spool, document_fk: int, *, spool_id: str, now: datetime
) -> None:
    """Empty what is personal in the rows of a document, and delete its fetched files; what lies on other
    nodes stays known.

    Raises:
        DatabaseUnavailableError: the database is away.
        SpoolUnavailableError: a file cannot be deleted; its row still names it.
    """
    with database.transaction() as connection:
        if database.is_sqlite:
            # Else the old text would stay in pages that are free now.
            connection.exec_driver_sql("PRAGMA secure_delete = ON")
        erased = connection.execute(
            update(Document)
            .where(Document.id == document_fk)
            .values(refs={}, dms={}, learned={}, refs_version=Document.refs_version + 1, erased_at=now)
            .returning(Document.provider, Document.document_id)
        ).one()
        erase_orders(connection, erased.provider, erased.document_id)
        events = update(EventRow).where(EventRow.document_fk == document_fk)
        connection.execute(events.values(message=""))
        connection.execute(events.where(EventRow.event_type == EventType.UNKNOWN).values(action=ERASED))
        connection.execute(
            update(OutboxRow)
            .where(OutboxRow.document_fk == document_fk)
            .values(last_error="", remote_reference="")
        )
        rows = connection.execute(
            select(FileRow.id, FileRow.spool_id, FileRow.path).where(FileRow.document_fk == document_fk)
        ).all()
        for row in rows:
            # The source tells files of one document apart, so it stays a different one for each.
            emptied = {"name": "", "source": f"erased {row.id}"}
            connection.execute(
                update(FileRow)
                .where(FileRow.id == row.id)
                .values({**emptied, "path": ""} if row.spool_id == spool_id else emptied)
            )
        # Before the commit: once the rows are emptied nobody would find them.
        paths = [row.path for row in rows if row.path and row.spool_id == spool_id]
        _delete_files(spool, erased.provider, erased.document_id, paths)
    if database.is_sqlite:
        _empty_log(database)


def _delete_files(spool: Spool, provider: str, document_id: str, paths: Sequence[str]) -> None:
    """Delete the fetched files of a document: those that rows name, also what was fetched since somebody
    looked, and those that a killed processor could not note, or not delete, any more."""
    with unavailable("delete fetched files", gone_too=True):
        unknown = spool.files.glob(f"????-??-??/{provider}/{glob.escape(encode_id(document_id))}_*")
        for path in (*(spool.files / path for path in paths), *unknown):
            path.unlink(missing_ok=True)


def _empty_log(database: Database) -> None:
    """Have SQLite carry its log over into its file and empty it, since the old text stands there too."""
    with database.engine.connect() as connection:
        driver = connection.connection.dbapi_connection
        assert driver is not None
        busy = driver.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise DatabaseUnavailableError(
            "the rows are emptied, and the log of the database is in use and could not be: repeat the command"
        )

"""The comparison is fair: the loop that takes one at a time leaves the same statuses and events as we do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import delete, select

from benchmarks.ground import lay_entries
from benchmarks.peers import one_at_a_time
from shared.db.models import Document, EventRow
from shared.db.session import Database
from shared.spool import Folder, Spool
from tests.doubles import FakeTime
from tests.processor.conftest import Workshop


def test_both_leave_the_same_behind(database: Database, tmp_path: Path) -> None:
    ours, theirs = (full_spool(tmp_path / name, database) for name in ("ours", "theirs"))
    ours.work()
    expected = left_behind(ours)
    with database.transaction() as connection:
        connection.execute(delete(Document))
    one_at_a_time.work_through(theirs.spool.root, database)
    assert left_behind(theirs) == expected
    assert len(expected[1]) == 7


def full_spool(root: Path, database: Database) -> Workshop:
    time = FakeTime()
    spool = Spool(root, time.clock())
    made = Workshop(spool, spool.initialise(), database, time)
    spool.make_day_folders()
    lay_entries(spool, 7)
    return made


def left_behind(side: Workshop) -> tuple[Any, ...]:
    event = EventRow.__table__.c
    with side.database.reading() as connection:
        documents = connection.execute(
            select(Document.provider, Document.key, Document.status).order_by(Document.key)
        ).all()
        events = connection.execute(
            select(
                event.receipt_id,
                event.action,
                event.event_type,
                event.outcome,
                event.status_before,
                event.status_after,
                event.trust,
                event.settled_at.is_not(None),
            ).order_by(event.receipt_id)
        ).all()
    return documents, events, sorted(side.spool.entries(Folder.DONE)), list(side.spool.entries(Folder.SPOOL))

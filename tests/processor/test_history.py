"""The history of finished documents goes when its time is over, and nothing that may still matter."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import select, update

from processor.history import History
from shared.db.models import Document, EventRow, FileRow, OutboxRow, State
from tests.processor.conftest import Workshop

DAY_SECONDS = 86_400.0
NO_STOP = threading.Event()


def history_of(workshop: Workshop, days: float = 100) -> History:
    return History(workshop.database, workshop.clock, keep_seconds=days * DAY_SECONDS)


def finish(workshop: Workshop, document_id: str, action: str = "COMPLETED") -> None:
    """Have a document finished, with everything delivered and settled."""
    workshop.register(document_id, {"file_ids": "9"}, dms={"folder": "a-persons-folder"})
    workshop.put({"envelopeId": document_id, "action": action})
    workshop.work()
    with workshop.database.transaction() as connection:
        connection.execute(update(OutboxRow).values(state=State.DONE))
        connection.execute(update(EventRow).values(settled_at=workshop.clock.now()))


def change(workshop: Workshop, table: Any, **values: Any) -> None:
    with workshop.database.transaction() as connection:
        connection.execute(update(table).values(**values))


def test_a_finished_document_loses_its_history_and_keeps_id_and_status(workshop: Workshop) -> None:
    """Whole days count, and a repeated callback years later has no effect."""
    finish(workshop, "155")
    workshop.time.pass_seconds(100 * DAY_SECONDS)
    assert (history_of(workshop).over(), history_of(workshop).drop(NO_STOP)) == (0, 0)
    workshop.time.pass_seconds(DAY_SECONDS)
    assert history_of(workshop).over() == 1
    assert history_of(workshop).drop(NO_STOP) == 1
    shown = workshop.show("155")
    assert (shown["status"], shown["events"], shown["deliveries"], shown["owed"]) == ("completed", [], [], [])
    assert (shown["references"], shown["dms"]) == ({}, {})
    assert shown["history_dropped_at"] is not None
    assert history_of(workshop).over() == 0

    workshop.put({"envelopeId": "155", "action": "COMPLETED"})
    workshop.work()
    shown = workshop.show("155")
    assert [event["outcome"] for event in shown["events"]] == ["unchanged"]
    assert shown["owed"] == []


@pytest.mark.parametrize(
    ("table", "values"),
    [
        (Document, {"status": "processing"}),
        (EventRow, {"settled_at": None}),
        (OutboxRow, {"state": State.HELD}),
    ],
)
def test_what_may_still_matter_stays(workshop: Workshop, table: Any, values: dict[str, Any]) -> None:
    """An open document, an entry that is not settled, and something that is owed."""
    finish(workshop, "155")
    change(workshop, table, **values)
    workshop.time.pass_seconds(500 * DAY_SECONDS)
    assert history_of(workshop).drop(NO_STOP) == 0
    assert workshop.show("155")["events"]


def test_a_document_whose_file_lies_on_our_disk_alone_keeps_its_history(workshop: Workshop) -> None:
    finish(workshop, "155")
    now = workshop.clock.now()
    with workshop.database.transaction() as connection:
        document_fk = connection.scalar(select(Document.id))
        values = {"kind": "signed", "source": "9", "name": "c.pdf", "media_type": "application/pdf"}
        connection.execute(
            FileRow.__table__.insert().values(  # type: ignore[attr-defined]
                document_fk=document_fk,
                size_bytes=1,
                sha256="0" * 64,
                path="2041-11-21/c.pdf",
                spool_id=workshop.spool_id,
                fetched_at=now,
                **values,
            )
        )
    workshop.time.pass_seconds(500 * DAY_SECONDS)
    assert history_of(workshop).drop(NO_STOP) == 0
    change(workshop, FileRow, path="")
    assert history_of(workshop).drop(NO_STOP) == 1


def test_news_of_one_document_keeps_that_one_alone(workshop: Workshop) -> None:
    for number in range(3):
        finish(workshop, str(number), "EXPIRED")
    workshop.time.pass_seconds(200 * DAY_SECONDS)
    finish(workshop, "1")
    assert history_of(workshop).drop(NO_STOP) == 2
    assert [bool(workshop.show(str(number))["events"]) for number in range(3)] == [False, True, False]


def test_a_stop_ends_the_dropping(workshop: Workshop) -> None:
    finish(workshop, "155")
    workshop.time.pass_seconds(500 * DAY_SECONDS)
    stop = threading.Event()
    stop.set()
    assert history_of(workshop).drop(stop) == 0

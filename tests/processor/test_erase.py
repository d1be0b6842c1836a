"""Erasing in the database, of either kind: what is emptied, what stays, and what comes first."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, text, update

from processor import polls
from processor.erase import ERASED, Traces, erase_rows_and_files, stop_work, traces
from processor.history import History
from shared.db.models import (
    Document,
    EventRow,
    FileRow,
    OutboxRow,
    PollRow,
    SendingRow,
    SendingState,
    State,
    document_key,
)
from shared.errors import UsageError
from shared.providers._base import Ask
from tests.processor.conftest import Workshop

PERSON = "Joana-Marques-8471"


def known(workshop: Workshop, document_id: str = "155") -> Traces | None:
    with workshop.database.transaction() as connection:
        return traces(connection, "ssign", document_id, spool_id=workshop.spool_id, now=workshop.clock.now())


def stop(workshop: Workshop, *, give_up: bool) -> Traces | None:
    return stop_work(
        workshop.database,
        "ssign",
        "155",
        spool_id=workshop.spool_id,
        now=workshop.clock.now(),
        give_up=give_up,
    )


def change(workshop: Workshop, table: Any, **values: Any) -> None:
    with workshop.database.transaction() as connection:
        connection.execute(update(table).values(**values))


def handled(workshop: Workshop) -> Traces:
    """A completed document with a person's name in every text of its rows."""
    workshop.register("155", {"file_ids": PERSON}, dms={"folder": PERSON})
    workshop.put({"envelopeId": 155, "action": f"SOMETHING {PERSON}"})
    workshop.put({"envelopeId": 155, "action": "COMPLETED"})
    workshop.work()
    change(workshop, Document, learned={"key": PERSON})
    change(workshop, EventRow, message=PERSON)
    change(workshop, OutboxRow, last_error=PERSON, remote_reference=PERSON)
    found = known(workshop)
    assert found is not None
    now = workshop.clock.now()
    rows = [
        {"source": f"{PERSON} {number}", "name": PERSON, "path": path, "spool_id": spool_id}
        for number, (path, spool_id) in enumerate(
            [("a/1.pdf", workshop.spool_id), ("a/2.pdf", "another"), ("", workshop.spool_id)]
        )
    ]
    common = {
        "document_fk": found.document_fk,
        "kind": "signed",
        "media_type": "application/pdf",
        "size_bytes": 1,
        "sha256": "0" * 64,
        "fetched_at": now,
    }
    with workshop.database.transaction() as connection:
        for row in rows:
            connection.execute(FileRow.__table__.insert().values(**common, **row))  # type: ignore[attr-defined]
        polls.begin(connection, "ssign", [Ask("155"), Ask("envelope 7"), Ask("156")], now)
    change(workshop, PollRow, note=PERSON)
    ordered(workshop, "ours-1", "155", ["155"])
    # One envelope of two documents, of which one is erased.
    ordered(workshop, "ours-2", "envelope 7", ["155", "1155"])
    return found


def ordered(workshop: Workshop, reference: str, envelope_id: str, document_ids: list[str]) -> None:
    """What stands in the database of documents that were sent out from here."""
    now = workshop.clock.now()
    with workshop.database.transaction() as connection:
        connection.execute(
            insert(SendingRow).values(
                provider="ssign",
                reference_key=document_key(reference),
                reference=reference,
                fingerprint="f" * 64,
                title=f"Contract of {PERSON}",
                state=SendingState.SENT,
                envelope_id=envelope_id,
                documents=[{"document_id": each, "file": f"{PERSON} {each}.pdf"} for each in document_ids],
                last_error=PERSON,
                attempts=1,
                created_at=now,
                sent_at=now,
                answered_at=now,
            )
        )


def every_text(workshop: Workshop) -> str:
    with workshop.database.transaction() as connection:
        return "".join(
            str(connection.execute(text(f"SELECT * FROM {table}")).all())
            for table in ("documents", "events", "outbox", "files", "sendings", "polls")
        )


def test_no_text_of_a_person_is_left_in_any_row(workshop: Workshop) -> None:
    """Digests, outcomes and times stay, words that are known stay, and so does what lies on another node."""
    found = handled(workshop)
    change(workshop, OutboxRow, state=State.DONE)
    before = workshop.show("155")
    erase_rows_and_files(
        workshop.database,
        workshop.spool,
        found.document_fk,
        spool_id=workshop.spool_id,
        now=workshop.clock.now(),
    )
    # What is of another document stays: a file beside it in its envelope, and what asking for it told.
    others = every_text(workshop).replace(f"{PERSON} 1155.pdf", "")
    assert others.count(PERSON) == 1
    change(workshop, PollRow, note="")
    assert PERSON not in every_text(workshop).replace(f"{PERSON} 1155.pdf", "")
    assert "ours-2" in others
    shown = workshop.show("155")
    assert {event["action"] for event in shown["events"]} == {ERASED, "COMPLETED"}
    for kept in ("payload_sha256", "outcome", "received_at", "recorded_at", "trust", "status_after"):
        assert [event[kept] for event in shown["events"]] == [event[kept] for event in before["events"]]
    assert [file["path"] for file in shown["files"]] == [None, "a/2.pdf", None]
    assert {file["sha256"] for file in shown["files"]} == {"0" * 64}
    assert (shown["status"], shown["erased_at"] is None) == ("completed", False)


def test_what_is_there_is_told(workshop: Workshop) -> None:
    handled(workshop)
    assert known(workshop, "156") is None
    found = known(workshop)
    assert found is not None
    assert (found.files, found.elsewhere, found.copies) == (["a/1.pdf"], ["files/a/2.pdf"], [])
    assert {row["task"] for row in found.owed} == {"fetch", "advance"}
    change(workshop, EventRow, spool_id="another")
    found = known(workshop)
    assert found is not None
    assert len(found.elsewhere) == 3


def test_what_is_owed_stops_it_until_it_is_given_up_and_what_is_in_work_always(workshop: Workshop) -> None:
    handled(workshop)
    with pytest.raises(UsageError, match="still owed"):
        stop(workshop, give_up=False)
    change(workshop, OutboxRow, lease_until=workshop.clock.now() + timedelta(minutes=1))
    with pytest.raises(UsageError, match="worked on"):
        stop(workshop, give_up=True)
    with workshop.database.transaction() as connection:
        assert len(connection.scalars(select(OutboxRow.id)).all()) == 2
    workshop.time.pass_seconds(61)
    assert stop(workshop, give_up=True) is not None
    assert workshop.show("155")["owed"] == []
    # A callback that says it once more owes nothing anew.
    workshop.put({"envelopeId": 155, "action": "COMPLETED"})
    workshop.work()
    assert workshop.show("155")["owed"] == []


def test_a_title_that_names_a_person_does_not_outlive_the_history(workshop: Workshop) -> None:
    """Of an order as old as what retention drops, the reference stays: it is not sent a second time."""
    ordered(workshop, "old", "155", ["155"])
    workshop.time.pass_seconds(10 * 86_400)
    ordered(workshop, "young", "156", ["156"])
    unknown = {"title": "asked for", "documents": [], "last_error": ""}
    ordered(workshop, "unknown", "157", [])
    with workshop.database.transaction() as connection:
        connection.execute(
            update(SendingRow)
            .where(SendingRow.reference == "unknown")
            .values(
                state=SendingState.UNKNOWN, created_at=workshop.clock.now() - timedelta(days=10), **unknown
            )
        )
    history = History(workshop.database, workshop.clock, keep_seconds=5 * 86_400.0)
    for _ in range(2):
        history.drop(threading.Event())
    with workshop.database.transaction() as connection:
        rows = {row.reference: row for row in connection.execute(select(SendingRow.__table__))}
    assert (rows["old"].title, rows["old"].last_error) == ("", "")
    assert rows["old"].documents == [{"document_id": "155", "file": None}]
    assert rows["old"].state == SendingState.SENT
    assert PERSON in rows["young"].title
    assert rows["unknown"].title == "asked for"

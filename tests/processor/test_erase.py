"""Erasing in the database, of either kind: what is emptied, what stays, and what comes first."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text, update

from processor.erase import ERASED, Traces, erase_rows, stop_work, traces
from shared.db.models import Document, EventRow, FileRow, OutboxRow, State
from shared.errors import UsageError
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
    return found


def every_text(workshop: Workshop) -> str:
    with workshop.database.transaction() as connection:
        return "".join(
            str(connection.execute(text(f"SELECT * FROM {table}")).all())
            for table in ("documents", "events", "outbox", "files")
        )


def test_no_text_of_a_person_is_left_in_any_row(workshop: Workshop) -> None:
    """Digests, outcomes and times stay, words that are known stay, and so does what lies on another node."""
    found = handled(workshop)
    change(workshop, OutboxRow, state=State.DONE)
    before = workshop.show("155")
    erase_rows(workshop.database, found.document_fk, spool_id=workshop.spool_id, now=workshop.clock.now())
    assert PERSON not in every_text(workshop)
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

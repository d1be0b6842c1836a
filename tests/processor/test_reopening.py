"""Documents that are taken back into signing, through the pipeline and on both databases."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import select, update

from processor.pipeline import Tally
from shared.body import Encoding
from shared.db.models import Document, OutboxRow, Task
from shared.events import DocumentStatus
from shared.names import entry_name
from shared.record import Receipt, SpoolRecord, digest_of
from shared.spool import Entry, Folder
from tests.doubles import MemoryDestination
from tests.processor.conftest import Workshop
from tests.providers.conftest import make_callback

NAME = "arqsign"
START = datetime(2026, 11, 21, tzinfo=UTC)


def body(document_id: str, trigger: int, minute: int) -> dict[str, Any]:
    """A callback with the five fields that always come, and the number of the trigger."""
    said_at = f"21/11/2025 13:{minute:02d}:00"
    return {"evento": "?", "idEvento": trigger, "idProcesso": document_id, "dataHoraAtual": said_at}


def put(workshop: Workshop, content: dict[str, Any]) -> Entry:
    payload = json.dumps(content).encode()
    provider = workshop.provider(NAME)
    head = provider.callback_id(make_callback(payload))
    receipt_id = str(uuid.uuid4())
    record = SpoolRecord(
        received_at=workshop.clock.local(),
        document_id=head.document_id,
        action=head.action,
        provider_number=provider.file_number,
        payload=payload,
        id_field=provider.id_field,
        receipt=Receipt(receipt_id, NAME, Encoding.JSON, digest_of(payload), len(payload)),
    )
    name = entry_name(head.document_id, receipt_id)
    return workshop.lay(Entry(workshop.clock.today().isoformat(), name), record.to_bytes())


def outcomes(found: dict[str, Any]) -> list[str]:
    return [event["outcome"] for event in found["events"]]


STORY = [(4, 1), (7, 2), (6, 3)]
"""Refused, resent, expired, a minute apart."""


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "one by one"])
def test_refused_resent_expired_ends_as_expired_in_every_order(workshop: Workshop, together: bool) -> None:
    pipeline = workshop.pipeline()
    for number, arrived in enumerate(permutations(STORY)):
        bodies = [body(f"p-{number}", *said) for said in arrived]
        if together:
            # A listing has no order; what matters here is that one transaction sees them all.
            pipeline._handle([put(workshop, content) for content in bodies], Tally())
        else:
            for content in bodies:
                put(workshop, content)
                workshop.work()
        assert workshop.show(f"p-{number}", NAME)["status"] == "expired", arrived


def test_a_repeated_refusal_does_not_undo_the_resending_and_a_new_one_does(workshop: Workshop) -> None:
    def say(trigger: int, minute: int) -> str:
        put(workshop, body("p", trigger, minute))
        workshop.work()
        status: str = workshop.show("p", NAME)["status"]
        return status

    assert [say(4, 1), say(7, 5), say(4, 1), say(5, 3)] == ["declined", "pending", "pending", "pending"]
    assert [say(4, 9), say(7, 5), say(7, 11), say(8, 12), say(7, 13)] == [
        "declined",
        "declined",
        "pending",
        "completed",
        "completed",
    ]
    assert outcomes(workshop.show("p", NAME)) == [
        *["applied", "applied", "repeated", "late"],
        *["applied", "repeated", "applied", "applied", "late"],
    ]


def test_a_repeat_of_the_same_second_as_the_resending_is_no_later_word(workshop: Workshop) -> None:
    for trigger in (6, 7, 6, 1):
        put(workshop, body("p", trigger, 1))
        workshop.work()
    assert workshop.show("p", NAME)["status"] == "pending"
    put(workshop, body("p", 5, 0))
    workshop.work()
    found = workshop.show("p", NAME)
    assert found["status"] == "pending"
    assert outcomes(found) == ["applied", "applied", "repeated", "unchanged", "late"]


def test_the_signed_file_is_owed_once_however_often_it_was_resent(workshop: Workshop) -> None:
    said: Sequence[tuple[int, int]] = [(6, 1), (7, 2), (6, 3), (7, 4), (8, 5), (8, 6), (7, 7)]
    for trigger, minute in said:
        put(workshop, body("p", trigger, minute))
        workshop.work()
    found = workshop.show("p", NAME)
    assert found["status"] == "completed"
    assert [item["task"] for item in found["owed"]] == ["fetch"]


def test_one_document_of_a_batch_says_nothing_of_another(workshop: Workshop) -> None:
    said = [("a", 6, 1), ("b", 4, 1), ("a", 7, 2)]
    workshop.pipeline()._handle([put(workshop, body(*one)) for one in said], Tally())
    assert [workshop.show(name, NAME)["status"] for name in ("a", "b")] == ["pending", "declined"]


class AdvancesOnEveryEnd(MemoryDestination):
    """Moves the workflow whenever no further signing is expected."""

    def advances(self, status: DocumentStatus) -> bool:
        return status.is_final


def steps(workshop: Workshop, document_id: str) -> list[str]:
    """The statuses for which a workflow step of a document is owed."""
    document_fk = select(Document.id).where(Document.document_id == document_id).scalar_subquery()
    owed = select(OutboxRow.status).where(
        OutboxRow.task == Task.ADVANCE, OutboxRow.document_fk == document_fk
    )
    with workshop.database.reading() as connection:
        return list(connection.scalars(owed))


STORIES: list[tuple[list[tuple[int, int]], list[str]]] = [
    ([(4, 1)], ["declined"]),
    ([(4, 1), (7, 2)], []),
    ([(4, 1), (7, 2), (5, 3)], ["cancelled"]),
    ([(4, 1), (7, 2), (4, 3)], ["declined"]),
    ([(4, 1), (7, 2), (8, 3)], ["completed"]),
    # A resending of what is completed already takes nothing away.
    ([(8, 3), (7, 2)], ["completed"]),
]
"""What happened, and the steps that are owed after it."""


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "one by one"])
def test_a_workflow_step_that_nobody_took_falls_away_with_the_resending(
    workshop: Workshop, together: bool
) -> None:
    workshop.destination = AdvancesOnEveryEnd()
    pipeline = workshop.pipeline()
    entries: list[list[Entry]] = []
    for number, (story, _) in enumerate(STORIES):
        entries.append([])
        for said in story:
            entries[-1].append(put(workshop, body(f"p-{number}", *said)))
            if not together:
                workshop.work()
    if together:
        pipeline._handle([entry for of_story in entries for entry in of_story], Tally())
    workshop.settler().scan()
    for number, (story, left) in enumerate(STORIES):
        assert steps(workshop, f"p-{number}") == left, story
        owing = {workshop.folder_of(entry) for entry in entries[number]}
        assert (Folder.DEFERRED in owing) is bool(left), story


def test_a_step_that_was_sent_or_is_being_taken_stays(workshop: Workshop) -> None:
    workshop.destination = AdvancesOnEveryEnd()
    for document_id, values in (("sent", {"sent_at": START}), ("leased", {"lease_until": START})):
        put(workshop, body(document_id, 4, 1))
        workshop.work()
        with workshop.database.transaction() as connection:
            connection.execute(update(OutboxRow).values(**values))
        put(workshop, body(document_id, 7, 2))
        workshop.work()
        assert steps(workshop, document_id) == ["declined"]

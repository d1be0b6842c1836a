"""What is registered, learned or set while work is going on, or after it, is never overlooked."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from processor import leasing, outbox
from shared.db.models import State
from shared.errors import TransientError
from shared.events import DocumentStatus
from shared.spool import Entry, Folder
from tests.processor.conftest import Workshop
from tests.processor.test_outbox import PDF, Yard, complete, states


@pytest.fixture
def yard(workshop: Workshop) -> Yard:
    return Yard(workshop)


def test_files_registered_during_the_fetch_are_fetched_too(yard: Yard) -> None:
    workshop = yard.workshop
    complete(workshop, file_ids="901")

    def register_meanwhile() -> httpx.Response:
        assert workshop.register("155", {"file_ids": "901,902"}) == "changed"
        return httpx.Response(200, content=PDF + b"901", headers={"content-type": "application/pdf"})

    yard.peer.answers = [register_meanwhile]
    yard.peer.suffix = b"901"
    yard.work()
    assert set(yard.peer.asked) == {"901", "902"}
    assert {item["source"] for item in workshop.show("155")["files"]} == {"signed:901", "signed:902"}


def test_a_registration_between_looking_and_waiting_is_not_overlooked(yard: Yard) -> None:
    workshop = yard.workshop
    workshop.put({"envelopeId": 155, "action": "COMPLETED"})
    workshop.work()
    now = workshop.clock.now()
    with workshop.database.transaction() as connection:
        [leased], _ = leasing.lease(
            connection, "provider:ssign", 1, spool_id=workshop.spool_id, now=now, lease_seconds=300
        )
    # The work has found nothing registered; before it says so, the application registers.
    workshop.register("155", {"file_ids": "901"})
    with workshop.database.transaction() as connection:
        outbox.let_wait(connection, leased, "no file ids are registered", now)
    yard.work()
    assert len(workshop.destination.delivered) == 1


def test_registering_once_more_wakes_what_waits(yard: Yard) -> None:
    workshop = yard.workshop
    complete(workshop)
    with workshop.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE outbox SET state = 'waiting'")
    assert workshop.register("155", {"file_ids": "901"}) == "unchanged"
    yard.work()
    assert len(workshop.destination.delivered) == 1


def test_moving_an_entry_back_wakes_what_waits(yard: Yard) -> None:
    workshop = yard.workshop
    entry = complete(workshop)
    with workshop.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE outbox SET state = 'waiting'")
    workshop.spool.move(entry, Folder.DEFERRED, Folder.SPOOL)
    workshop.work()
    yard.work()
    assert len(workshop.destination.delivered) == 1


def test_dms_references_alone_fetch_nothing_again(yard: Yard) -> None:
    workshop = yard.workshop
    entry = complete(workshop)
    yard.work()
    yard.peer.answers = [lambda: httpx.Response(410)]
    assert workshop.register("155", {}, dms={"note": "x"}) == "changed"
    yard.work()
    assert yard.peer.asked == ["901"]
    assert workshop.folder_of(entry) is Folder.DONE


def test_a_corrected_registration_starts_afresh_what_had_been_given_up(yard: Yard) -> None:
    workshop = yard.workshop
    entry = complete(workshop)
    workshop.destination.fail_before = [TransientError("busy") for _ in range(3)]
    for _ in range(3):
        yard.work()
        workshop.time.pass_seconds(4000)
    assert states(workshop)["deliver"] == "failed"
    workshop.register("155", {}, dms={"cdFluxo": "77"})
    yard.work()
    assert states(workshop)["deliver"] == "done"
    assert workshop.folder_of(entry) is Folder.DONE


def test_what_a_later_callback_teaches_wakes_what_waits(workshop: Workshop) -> None:
    workshop.put({"documentId": 7, "action": "FLOW"}, provider="certisign")
    workshop.work()
    with workshop.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE outbox SET state = 'waiting'")
    workshop.put({"documentId": 7, "action": "FLOW", "apiDownload": "https://x/?key=1"}, provider="certisign")
    workshop.work()
    assert [item["state"] for item in workshop.show("7", "certisign")["owed"]] == ["due"]


def test_what_is_owed_to_a_peer_in_no_setting_waits_with_that_reason(yard: Yard) -> None:
    workshop = yard.workshop
    complete(workshop)
    now = workshop.clock.now()
    with workshop.database.transaction() as connection:
        outbox.wake_waiting(connection, ["destination:memory"], now)
    [fetch] = [item for item in workshop.show("155")["owed"] if item["task"] == "fetch"]
    assert fetch["state"] == State.WAITING
    assert fetch["last_error"] == "not configured any more: put it back into the settings: provider:ssign"
    with workshop.database.transaction() as connection:
        outbox.wake_waiting(connection, [lane.name for lane in yard.lanes], now)
    yard.work()
    assert len(workshop.destination.delivered) == 1


class EveryEnd:
    """Makes a destination advance for expired documents too."""

    def __call__(self, status: DocumentStatus) -> bool:
        return status in (DocumentStatus.COMPLETED, DocumentStatus.EXPIRED)


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "while the step waits"])
def test_a_workflow_leaves_by_the_exit_of_the_status_that_is_right(yard: Yard, together: bool) -> None:
    workshop = yard.workshop
    workshop.destination.advances = EveryEnd()  # type: ignore[method-assign]
    guids = [f"00000000-0000-7000-8000-{number:012d}" for number in range(2)]
    workshop.put({"envelopeId": 155, "action": "EXPIRED"}, guid=guids[0])
    if not together:
        workshop.work()
        workshop.destination.fail_before = [TransientError("down")]
        yard.work()
    complete(workshop)
    workshop.time.pass_seconds(4000)
    yard.work()
    assert [step.subject.status for step in workshop.destination.advanced] == ["completed"]
    assert len(workshop.destination.delivered) == 1


def test_two_files_of_the_same_content_are_one_delivery_and_leave_nothing_behind(yard: Yard) -> None:
    workshop = yard.workshop
    same = httpx.Response(200, content=PDF, headers={"content-type": "application/pdf"})
    yard.peer.answers = [lambda: same, lambda: httpx.Response(200, content=PDF, headers=same.headers)]
    complete(workshop, file_ids="901,902")
    yard.work()
    assert len(workshop.destination.delivered) == 1
    assert [path for path in workshop.spool.files.rglob("*") if path.is_file()] == []


def test_an_unexpected_error_after_sending_is_held_even_at_the_last_attempt(workshop: Workshop) -> None:
    yard = Yard(workshop, attempts=1)
    complete(workshop)
    workshop.destination.fail_after = [KeyError("a fault of ours")]
    yard.work()
    assert states(workshop)["deliver"] == "held"


def test_a_retry_while_the_entry_is_being_settled_is_not_lost(yard: Yard) -> None:
    workshop = yard.workshop
    entry = complete(workshop)
    workshop.destination.fail_before = [TransientError("busy") for _ in range(3)]
    settler = workshop.settler()
    yard.lanes[1]._settler.settle_event = lambda _: None  # type: ignore[assignment,method-assign]
    for _ in range(3):
        yard.work()
        workshop.time.pass_seconds(4000)
    original = workshop.spool.quarantine

    def quarantine_and_retry(*arguments: Any) -> Entry | None:
        moved = original(*arguments)
        workshop.register("155", {}, dms={"cdFluxo": "77"})
        return moved

    workshop.spool.quarantine = quarantine_and_retry  # type: ignore[assignment,method-assign]
    settler.scan()
    workshop.spool.quarantine = original  # type: ignore[method-assign]
    yard.work()
    settler.scan()
    assert workshop.folder_of(entry) is Folder.DONE


def test_a_token_that_the_provider_repeats_reaches_no_message(workshop: Workshop) -> None:
    yard = Yard(workshop)
    provider = workshop.provider("ssign", base_url="https://sign.example/rest", token="s3cret-token")
    object.__setattr__(yard.worker, "providers", {"ssign": provider})
    complete(workshop)
    yard.peer.answers = [lambda: httpx.Response(400, text="you sent Custom s3cret-token, wrong")]
    yard.work()
    [fetch] = [item for item in workshop.show("155")["owed"] if item["task"] == "fetch"]
    assert fetch["state"] == "failed"
    assert "you sent ***, wrong" in fetch["last_error"]


def test_a_reference_that_cannot_be_sent_is_said_and_not_tried_for_ever(yard: Yard) -> None:
    workshop = yard.workshop
    complete(workshop, file_ids="\ud800")
    yard.work()
    assert states(workshop)["fetch"] == "failed"


def test_a_good_document_is_tried_before_those_that_keep_failing(workshop: Workshop) -> None:
    """A few documents with trouble of their own do not keep an open breaker closed to all others."""
    yard = Yard(workshop)
    for number in range(1, 4):
        complete(workshop, document_id=str(number))
        yard.peer.answers.append(lambda: httpx.Response(500))
    yard.work()
    complete(workshop, document_id="155")
    workshop.time.pass_seconds(60)
    with workshop.database.transaction() as connection:
        [leased], _ = leasing.lease(
            connection,
            "provider:ssign",
            1,
            spool_id=workshop.spool_id,
            now=workshop.clock.now(),
            lease_seconds=300,
            least_tried_first=True,
        )
    assert leased.attempt == 1

"""What is owed: leased once, charged before the work, in the right order, and never lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from processor import deliveries, leasing, outbox
from processor.access import Access
from processor.breaker import Breaker
from processor.lanes import Lane, LaneSettings
from processor.means import Means
from processor.metrics import ProcessorMetrics
from processor.outside import Outside
from processor.work import Worker
from shared.db.models import State
from shared.errors import NoAnswerError, PermanentError, TransientError, WaitingError
from shared.spool import Folder
from tests.processor.conftest import Workshop

PDF = b"%PDF-1.7\n1 0 obj <<>> endobj\ntrailer <<>>\n%%EOF\n"


class Peer:
    """S-SIGN's download call; answers what it is told to, and counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: list[Callable[[], httpx.Response]] = []
        self.suffix = b""

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.params["EnvelopeFileId"])
        if self.answers:
            return self.answers.pop(0)()
        content = PDF + self.suffix + self.asked[-1].encode() + b"\n%%EOF\n"
        return httpx.Response(200, content=content, headers={"content-type": "application/pdf"})


class Yard:
    """Lanes around a workshop, driven round by round."""

    def __init__(self, workshop: Workshop, **lane_changes: Any) -> None:
        self.workshop = workshop
        self.peer = Peer()
        self.metrics = ProcessorMetrics((), ())
        self.transport = httpx.MockTransport(self.peer.handle)
        provider = workshop.provider("ssign", base_url="https://sign.example/rest", token="t")
        outside = Outside(
            "ssign",
            origins=provider.origins,
            connect_timeout_seconds=60,
            read_timeout_seconds=60,
            total_timeout_seconds=120,
            transport=self.transport,
        )
        self.worker = Worker(
            spool=workshop.spool,
            spool_id=workshop.spool_id,
            database=workshop.database,
            providers={"ssign": provider},
            outsides={"ssign": outside},
            destinations={workshop.destination.name: workshop.destination},
            mirror=None,
            policy=workshop.policy,
            max_file_bytes=1_000_000,
        )
        self.accesses: dict[str, Access] = {}
        # One loop for all that a test does, as a lane has in its life.
        self._runner = asyncio.Runner()
        workshop.at_end.callback(self._runner.close)
        self.lanes = [self.lane(name, **lane_changes) for name in ("provider:ssign", "destination:memory")]

    def lane(self, name: str, **changes: Any) -> Lane:
        settings = {
            "concurrency": 4,
            "look_seconds": 1.0,
            "lease_seconds": 300.0,
            "attempts": 3,
            "backoff_base_seconds": 30.0,
            "backoff_cap_seconds": 3600.0,
            **changes,
        }
        clock = self.workshop.clock
        return Lane(
            name,
            database=self.workshop.database,
            worker=self.worker,
            settler=self.workshop.settler(),
            breaker=Breaker(failures=100, pause_seconds=30, monotonic=clock.monotonic),
            access=self.accesses.setdefault(name, Access(name, pause_seconds=30, monotonic=clock.monotonic)),
            settings=LaneSettings(**settings),
            means=Means(),
            metrics=self.metrics,
            wake_all=lambda: None,
            now=clock.now,
        )

    def work(self) -> None:
        """Do everything that is due now."""

        async def rounds() -> None:
            while sum([await lane.take() for lane in self.lanes]):
                for lane in self.lanes:
                    await lane.drain(30)

        self._runner.run(rounds())


@pytest.fixture
def yard(workshop: Workshop) -> Yard:
    return Yard(workshop)


def complete(workshop: Workshop, document_id: str = "155", file_ids: str = "901") -> Any:
    entry = workshop.put({"envelopeId": document_id, "action": "COMPLETED"})
    workshop.register(document_id, {"file_ids": file_ids})
    workshop.work()
    return entry


def states(workshop: Workshop, document_id: str = "155") -> dict[str, str]:
    found = workshop.show(document_id)
    return {item["task"]: item["state"] for item in [*found["owed"], *found["deliveries"]]}


def test_a_signed_file_is_fetched_delivered_and_the_workflow_advanced_once(yard: Yard) -> None:
    workshop = yard.workshop
    entry = complete(workshop, file_ids="901,902")
    yard.work()
    found = workshop.show("155")
    assert yard.peer.asked == ["901", "902"]
    delivered = [parcel.sha256 for parcel in workshop.destination.delivered]
    assert sorted(delivered) == sorted(item["sha256"] for item in found["files"])
    assert len(workshop.destination.advanced) == 1
    assert {item["state"] for item in found["deliveries"]} == {"done"}
    assert workshop.folder_of(entry) is Folder.DONE
    assert [path for path in workshop.spool.files.rglob("*") if path.is_file()] == []


def test_the_idempotency_key_is_provider_document_and_digest(yard: Yard) -> None:
    complete(yard.workshop, document_id="1/5")
    yard.work()
    [parcel] = yard.workshop.destination.delivered
    assert parcel.idempotency_key == f"ssign:1%2F5:{parcel.sha256}"


def test_repeated_callbacks_deliver_nothing_twice(yard: Yard) -> None:
    workshop = yard.workshop
    for _ in range(3):
        complete(workshop)
        yard.work()
    assert len(workshop.destination.delivered) == 1
    assert len(workshop.destination.advanced) == 1


def test_an_unregistered_document_waits_uncharged_and_goes_on_once_registered(yard: Yard) -> None:
    workshop = yard.workshop
    entry = workshop.put({"envelopeId": 155, "action": "COMPLETED"})
    workshop.work()
    yard.work()
    [fetch] = workshop.show("155")["owed"]
    assert (fetch["state"], fetch["attempts"]) == ("waiting", 0)
    assert "documents register" in fetch["last_error"]
    assert workshop.folder_of(entry) is Folder.DEFERRED
    assert workshop.register("155", {"file_ids": "901"}) == "new"
    yard.work()
    assert workshop.folder_of(entry) is Folder.DONE


def test_the_workflow_step_follows_every_delivery_of_its_destination(yard: Yard) -> None:
    workshop = yard.workshop
    complete(workshop, file_ids="901,902")
    workshop.destination.fail_before = [TransientError("busy")]
    yard.work()
    assert len(workshop.destination.delivered) == 1
    assert workshop.destination.advanced == []
    workshop.time.pass_seconds(60)
    yard.work()
    assert len(workshop.destination.delivered) == 2
    assert len(workshop.destination.advanced) == 1


def test_an_upload_of_unknown_outcome_is_held_and_not_repeated(yard: Yard) -> None:
    workshop = yard.workshop
    entry = complete(workshop)
    workshop.destination.fail_after = [NoAnswerError("no answer in time")]
    yard.work()
    workshop.time.pass_seconds(100_000)
    yard.work()
    assert len(workshop.destination.delivered) == 1
    assert states(workshop)["deliver"] == "held"
    assert workshop.folder_of(entry) is Folder.QUARANTINE
    reason = workshop.spool.reason(entry)
    assert reason is not None
    assert "deliveries retry" in reason["what_to_do"]


def test_a_held_delivery_goes_on_when_a_person_says_so(yard: Yard) -> None:
    workshop = yard.workshop
    entry = complete(workshop)
    workshop.destination.fail_after = [NoAnswerError("no answer in time")]
    yard.work()
    with workshop.database.transaction() as connection:
        [held] = deliveries.listing(connection, deliveries.Wanted(states=(State.HELD,)), limit=10)
        entries = deliveries.retry(connection, [held["id"]], workshop.clock.now())
    assert deliveries.bring_back(workshop.spool, entries) == 1
    yard.work()
    assert len(workshop.destination.delivered) == 2
    assert workshop.folder_of(entry) is Folder.DONE
    assert workshop.spool.reason(entry) is None


def test_a_held_delivery_stays_held_when_its_file_is_moved_back_by_hand(yard: Yard) -> None:
    workshop = yard.workshop
    entry = complete(workshop)
    workshop.destination.fail_after = [NoAnswerError("no answer in time")]
    yard.work()
    workshop.spool.move(entry, Folder.QUARANTINE, Folder.SPOOL)
    workshop.work()
    yard.work()
    assert len(workshop.destination.delivered) == 1
    assert workshop.folder_of(entry) is Folder.QUARANTINE


def test_an_advance_of_unknown_outcome_is_held(yard: Yard) -> None:
    workshop = yard.workshop
    complete(workshop)
    workshop.destination.advancing = True
    yard.lanes[0], yard.lanes[1] = yard.lanes
    original = workshop.destination.advance

    async def advance(step: Any, sending: Any) -> str:
        await original(step, sending)
        raise NoAnswerError("no answer in time")

    workshop.destination.advance = advance  # type: ignore[method-assign]
    yard.work()
    workshop.time.pass_seconds(100_000)
    yard.work()
    assert len(workshop.destination.advanced) == 1
    assert states(workshop) == {"fetch": "done", "deliver": "done", "advance": "held"}


def test_a_process_that_died_after_sending_leaves_a_held_delivery(yard: Yard) -> None:
    workshop = yard.workshop
    complete(workshop)
    workshop.destination.fail_after = [asyncio.CancelledError()]  # type: ignore[list-item]
    yard.work()
    # The next start takes over what the dead process had leased.
    with workshop.database.transaction() as connection:
        outbox.release_leases(connection, workshop.spool_id)
    yard.work()
    assert len(workshop.destination.delivered) == 1
    assert states(workshop)["deliver"] == "held"


def test_a_process_that_died_before_sending_leaves_a_due_delivery(yard: Yard) -> None:
    workshop = yard.workshop
    complete(workshop)
    workshop.destination.fail_before = [asyncio.CancelledError()]  # type: ignore[list-item]
    yard.work()
    with workshop.database.transaction() as connection:
        outbox.release_leases(connection, workshop.spool_id)
    yard.work()
    assert len(workshop.destination.delivered) == 1
    assert states(workshop)["deliver"] == "done"


def test_the_last_attempt_ends_in_quarantine_and_a_requeue_starts_afresh(yard: Yard) -> None:
    workshop = yard.workshop
    entry = complete(workshop)
    workshop.destination.fail_before = [TransientError("busy") for _ in range(3)]
    for _ in range(3):
        yard.work()
        workshop.time.pass_seconds(4000)
    found = next(item for item in workshop.show("155")["deliveries"] if item["task"] == "deliver")
    assert (found["state"], found["attempts"]) == ("failed", 3)
    assert "busy" in found["last_error"]
    assert workshop.folder_of(entry) is Folder.QUARANTINE
    workshop.spool.move(entry, Folder.QUARANTINE, Folder.SPOOL)
    workshop.work()
    yard.work()
    assert workshop.folder_of(entry) is Folder.DONE
    assert len(workshop.destination.delivered) == 1


def test_a_permanent_error_is_not_tried_again(yard: Yard) -> None:
    workshop = yard.workshop
    complete(workshop)
    workshop.destination.fail_before = [PermanentError("no such folder")]
    yard.work()
    workshop.time.pass_seconds(100_000)
    yard.work()
    assert workshop.destination.delivered == []
    assert states(workshop)["deliver"] == "failed"


def test_attempts_are_charged_before_the_work(yard: Yard) -> None:
    workshop = yard.workshop
    complete(workshop)
    with workshop.database.transaction() as connection:
        [leased], _ = leasing.lease(
            connection, "provider:ssign", 4, spool_id="x", now=workshop.clock.now(), lease_seconds=300
        )
    assert leased.attempt == 1
    assert workshop.show("155")["owed"][0]["attempts"] == 1
    with workshop.database.transaction() as connection:
        taken, _ = leasing.lease(
            connection, "provider:ssign", 4, spool_id="y", now=workshop.clock.now(), lease_seconds=300
        )
    assert taken == []


def test_retry_after_is_obeyed(yard: Yard) -> None:
    workshop = yard.workshop
    complete(workshop)
    yard.peer.answers = [lambda: httpx.Response(429, headers={"retry-after": "600"})]
    yard.work()
    workshop.time.pass_seconds(590)
    yard.work()
    assert len(yard.peer.asked) == 1
    workshop.time.pass_seconds(20)
    yard.work()
    assert len(yard.peer.asked) == 2


def test_a_file_that_vanished_before_its_delivery_is_fetched_again(yard: Yard, tmp_path: Path) -> None:
    workshop = yard.workshop
    complete(workshop)
    yard.lanes.reverse()
    workshop.destination.fail_before = [TransientError("busy")]
    yard.work()
    for path in workshop.spool.files.rglob("*.pdf"):
        path.unlink()
    for _ in range(3):
        workshop.time.pass_seconds(4000)
        yard.work()
    assert yard.peer.asked == ["901", "901"]
    assert len(workshop.destination.delivered) == 1


def test_a_document_that_lacks_a_dms_reference_waits_for_it(yard: Yard) -> None:
    workshop = yard.workshop
    complete(workshop)
    workshop.destination.fail_before = [WaitingError("register cdFluxo")]
    yard.work()
    assert states(workshop)["deliver"] == "waiting"
    with workshop.database.transaction() as connection:
        outbox.wake_waiting(connection, [lane.name for lane in yard.lanes], workshop.clock.now())
    yard.work()
    assert states(workshop)["deliver"] == "done"


def test_a_corrected_reference_is_tried_at_once(yard: Yard) -> None:
    """Nobody waits an hour of backoff after having typed the right file id."""
    workshop = yard.workshop
    complete(workshop, file_ids="1")
    yard.peer.answers = [lambda: httpx.Response(404)]
    yard.work()
    assert workshop.destination.delivered == []
    assert workshop.register("155", {"file_ids": "901"}) == "changed"
    yard.work()
    assert len(workshop.destination.delivered) == 1


def test_a_file_that_is_registered_late_is_delivered_and_the_first_one_not_again(yard: Yard) -> None:
    workshop = yard.workshop
    entry = complete(workshop, file_ids="901")
    yard.work()
    assert workshop.folder_of(entry) is Folder.DONE
    # S-SIGN may well make another file of the same id, with another digest.
    yard.peer.suffix = b"made anew"
    assert workshop.register("155", {"file_ids": "901,902"}) == "changed"
    yard.work()
    assert yard.peer.asked == ["901", "901", "902"]
    assert len(workshop.destination.delivered) == 2
    assert len(workshop.destination.advanced) == 1
    assert workshop.folder_of(entry) is Folder.DONE
    assert [path for path in workshop.spool.files.rglob("*") if path.is_file()] == []


def test_a_late_file_that_cannot_be_delivered_brings_its_entry_to_quarantine(yard: Yard) -> None:
    workshop = yard.workshop
    entry = complete(workshop, file_ids="901")
    yard.work()
    workshop.destination.fail_before = [PermanentError("no such folder")]
    workshop.register("155", {"file_ids": "901,902"})
    yard.work()
    assert workshop.folder_of(entry) is Folder.QUARANTINE


def test_registering_the_same_again_fetches_nothing(yard: Yard) -> None:
    workshop = yard.workshop
    complete(workshop, file_ids="901")
    yard.work()
    assert workshop.register("155", {"file_ids": "901"}) == "unchanged"
    yard.work()
    assert yard.peer.asked == ["901"]


def test_a_lane_that_was_ended_and_is_wanted_again_runs_once(yard: Yard) -> None:
    """Twice it would do more at once than it may. One that has not yet seen its end just goes on."""
    lane = yard.lanes[0]
    breaker, settings = lane.breaker, lane._settings

    async def live() -> list[bool]:
        stop = asyncio.Event()
        running = asyncio.create_task(lane.run(stop))
        await asyncio.sleep(0)
        lane.end()
        at_once = lane.adopt(yard.worker, breaker, lane._access, settings)
        lane.end()
        await running
        afterwards = lane.adopt(yard.worker, breaker, lane._access, settings)
        stop.set()
        await lane.run(stop)
        return [at_once, afterwards]

    assert yard._runner.run(live()) == [False, True]

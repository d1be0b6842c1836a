"""A key that is revoked: one alarm, nobody charged, nothing given up, and all goes on once it is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import structlog

from processor import outbox
from processor.access import Access
from processor.lanes import Lane
from processor.operator import count_refused
from shared.errors import OverQuotaError, WaitingError
from shared.spool import Folder
from tests.processor.conftest import Workshop
from tests.processor.test_outbox import PDF, Yard

DOCUMENTS = ("1", "2", "3", "4", "5", "6")


def refuse() -> httpx.Response:
    return httpx.Response(401, text="who are you")


@pytest.fixture
def yard(workshop: Workshop) -> Yard:
    """Six documents are signed, and the key is refused from now on."""
    made = Yard(workshop)
    for document_id in DOCUMENTS:
        workshop.put({"envelopeId": document_id, "action": "COMPLETED"})
        workshop.register(document_id, {"file_ids": f"90{document_id}"})
    workshop.work()
    made.peer.answers = [refuse] * 100
    return made


def fetches(yard: Yard) -> list[tuple[str, int]]:
    """State and attempts of each fetch."""
    owed = [yard.workshop.show(document_id)["owed"][0] for document_id in DOCUMENTS]
    return [(item["state"], item["attempts"]) for item in owed]


def refused(yard: Yard) -> int:
    with yard.workshop.database.reading() as connection:
        return count_refused(connection, "ssign")


def test_nobody_is_charged_and_nothing_is_asked_but_one_trial_after_each_pause(yard: Yard) -> None:
    with structlog.testing.capture_logs() as lines:
        yard.work()
        assert len(yard.peer.asked) == 4
        asked = []
        for _ in range(8):
            yard.workshop.time.pass_seconds(30)
            before = len(yard.peer.asked)
            yard.work()
            asked.append(len(yard.peer.asked) - before)
    # After 30 seconds, then after 60 and 120 more.
    assert asked == [1, 0, 1, 0, 0, 0, 1, 0]
    assert [line["event"] for line in lines].count("provider.refuses_us") == 1
    assert fetches(yard) == [("due", 0)] * len(DOCUMENTS)
    assert len(list(yard.workshop.spool.entries(Folder.DEFERRED))) == len(DOCUMENTS)
    assert list(yard.workshop.spool.entries(Folder.QUARANTINE)) == []
    assert 0 < refused(yard) <= len(DOCUMENTS)


def test_all_goes_on_by_itself_when_the_key_is_right_again(yard: Yard) -> None:
    yard.work()
    yard.peer.answers = []
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            yard.workshop.time.pass_seconds(300)
            yard.work()
    assert [line["event"] for line in lines].count("provider.accepts_us") == 1
    assert {state for state, _ in fetches(yard)} == {"done"}
    assert len(yard.workshop.destination.delivered) == len(DOCUMENTS)
    assert refused(yard) == 0


def test_a_new_process_asks_at_once_with_its_new_key(yard: Yard) -> None:
    yard.work()
    yard.peer.answers = []
    yard.accesses.clear()
    yard.workshop.time.pass_seconds(30)
    yard.lanes = [yard.lane(lane.name) for lane in yard.lanes]
    yard.work()
    assert {state for state, _ in fetches(yard)} == {"done"}


def reload_before_the_next_note(yard: Yard, lane: Lane, when: Callable[[], bool]) -> None:
    """New settings come right between the judgement of something in hand and its note in the database."""
    in_database, workshop = lane._in_database, yard.workshop

    async def reload_first(act: Callable[[Any], Any]) -> Any:
        if when():
            lane._in_database = in_database  # type: ignore[method-assign]
            access = Access(lane.name, pause_seconds=3600, monotonic=workshop.clock.monotonic)
            lane.adopt(yard.worker, lane.breaker, access, lane._settings)
            with workshop.database.transaction() as connection:
                outbox.wake_waiting(connection, [each.name for each in yard.lanes], workshop.clock.now())
        return await in_database(act)

    lane._in_database = reload_first  # type: ignore[method-assign]


def test_new_settings_reach_what_the_old_key_was_just_refused_for(yard: Yard) -> None:
    def asked() -> bool:
        if yard.peer.asked:
            yard.peer.answers = []
        return bool(yard.peer.asked)

    reload_before_the_next_note(yard, yard.lanes[0], asked)
    yard.work()
    assert {state for state, _ in fetches(yard)} == {"done"}


def test_new_settings_reach_what_just_began_to_wait_for_one(yard: Yard) -> None:
    destination = yard.workshop.destination
    yard.peer.answers = []
    destination.fail_before = [WaitingError("set base_url")]
    reload_before_the_next_note(yard, yard.lanes[1], lambda: not destination.fail_before)
    yard.work()
    assert len(destination.delivered) == len(DOCUMENTS)


def test_trials_take_turns_so_that_one_odd_document_keeps_no_other_waiting(workshop: Workshop) -> None:
    """It alone is answered 401, whatever the key; after its second time it waits, with its reason."""
    yard = Yard(workshop)
    for document_id in DOCUMENTS[:3]:
        workshop.put({"envelopeId": document_id, "action": "COMPLETED"})
        workshop.register(document_id, {"file_ids": f"90{document_id}"})
    workshop.work()

    def answer(request: httpx.Request) -> httpx.Response:
        asked = request.url.params["EnvelopeFileId"]
        yard.peer.asked.append(asked)
        if asked == "901":
            return refuse()
        return httpx.Response(
            200, content=PDF + asked.encode() + b"\n%%EOF\n", headers={"content-type": "application/pdf"}
        )

    yard.transport.handler = answer
    for _ in range(6):
        yard.work()
        workshop.time.pass_seconds(300)
    states = {number: workshop.show(number)["owed"][0]["state"] for number in DOCUMENTS[:3]}
    assert states == {"1": "waiting", "2": "done", "3": "done"}


def test_used_up_calls_charge_nobody_and_stop_the_lane_until_there_are_more(yard: Yard) -> None:
    worker = yard.worker
    sent: list[str] = []

    class UsedUp:
        """A sender that answers as one whose account has no calls left."""

        async def send(self, method: str, url: str, **_rest: object) -> None:
            raise AssertionError("files are streamed")

        def stream(self, method: str, url: str, **_rest: object) -> None:
            sent.append(url)
            raise OverQuotaError("429: used up", retry_after_seconds=500)

    outside = dict(worker.outsides)
    worker.outsides["ssign"] = UsedUp()  # type: ignore[index]
    yard.work()
    assert 1 <= len(sent) <= 4
    yard.workshop.time.pass_seconds(499)
    before = len(sent)
    yard.work()
    assert len(sent) == before
    assert fetches(yard) == [("due", 0)] * len(DOCUMENTS)
    worker.outsides.update(outside)  # type: ignore[attr-defined]
    yard.peer.answers = []
    yard.workshop.time.pass_seconds(1)
    yard.work()
    assert {state for state, _ in fetches(yard)} == {"done"}

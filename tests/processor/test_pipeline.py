"""Entries become events and statuses, each once, and their files end where the verdict says."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from processor.inhand import InHand
from processor.pipeline import Tally, TooManyBadError
from processor.reading import ReadEntry, Reader
from shared.db.session import Database
from shared.errors import DatabaseUnavailableError, SpoolUnavailableError
from shared.spool import Entry, Folder, Spool
from tests.processor.conftest import Workshop


def outcomes(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(event["action"], event["outcome"]) for event in found["events"]]


def test_a_callback_becomes_a_status_and_its_file_waits_for_what_is_owed(workshop: Workshop) -> None:
    entry = workshop.put({"envelopeId": 155, "action": "COMPLETED"})
    workshop.work()
    found = workshop.show("155")
    assert found["status"] == "completed"
    assert outcomes(found) == [("COMPLETED", "applied")]
    assert [item["task"] for item in found["owed"]] == ["fetch"]
    assert workshop.folder_of(entry) is Folder.DEFERRED


def test_a_callback_that_owes_nothing_is_done(workshop: Workshop) -> None:
    entry = workshop.put({"envelopeId": 155, "action": "PENDING"})
    workshop.work()
    assert workshop.show("155")["status"] == "pending"
    assert workshop.folder_of(entry) is Folder.DONE


def test_with_no_retention_a_finished_file_is_deleted_and_stays_in_the_history(workshop: Workshop) -> None:
    entry = workshop.put({"envelopeId": 155, "action": "EXPIRED"})
    workshop.keep_done = False
    workshop.work()
    assert workshop.spool.find(entry.name) == []
    assert workshop.show("155")["events"][0]["settled_at"] is not None


@pytest.mark.parametrize(
    ("actions", "status", "expected"),
    [
        (["COMPLETED", "COMPLETED"], "completed", ["applied", "repeated"]),
        (["COMPLETED", "EXPIRED"], "completed", ["applied", "late"]),
        (["EXPIRED", "COMPLETED"], "completed", ["applied", "applied"]),
        (["COMPLETED", "PENDING"], "completed", ["applied", "late"]),
        (["SIGNED-BY-BIRD", "SIGNED-BY-BIRD"], "pending", ["unknown_action", "unknown_action"]),
        (["DELETED", "deleted "], "deleted", ["applied", "repeated"]),
    ],
)
@pytest.mark.parametrize("together", [True, False], ids=["one batch", "one by one"])
def test_repeated_late_and_unknown_callbacks_are_recorded_and_undo_nothing(
    workshop: Workshop, actions: Sequence[str], status: str, expected: Sequence[str], together: bool
) -> None:
    guids = [f"00000000-0000-7000-8000-{number:012d}" for number in range(len(actions))]
    pipeline = workshop.pipeline()
    if together:
        read = [
            workshop.put({"envelopeId": 7, "action": action}, guid=guid)
            for action, guid in zip(actions, guids, strict=True)
        ]
        # A listing has no order; what matters here is that one transaction sees them all.
        pipeline._handle(read, Tally())
    else:
        for action, guid in zip(actions, guids, strict=True):
            workshop.put({"envelopeId": 7, "action": action}, guid=guid)
            workshop.work()
    found = workshop.show("7")
    assert found["status"] == status
    assert [event["outcome"] for event in found["events"]] == list(expected)


def test_the_same_receipt_again_changes_nothing(workshop: Workshop) -> None:
    entry = workshop.put({"envelopeId": 155, "action": "COMPLETED"})
    content = workshop.spool.path(Folder.SPOOL, entry).read_bytes()
    workshop.work()
    workshop.lay(entry, content)
    workshop.work()
    found = workshop.show("155")
    assert outcomes(found) == [("COMPLETED", "applied")]
    assert len(found["owed"]) == 1
    assert workshop.folder_of(entry) is Folder.DEFERRED


def test_a_file_by_hand_with_the_prescribed_names_alone_is_processed(workshop: Workshop) -> None:
    entry = workshop.lay(
        Entry(workshop.clock.today().isoformat(), "by-hand.json"),
        json.dumps(
            {
                "timestamp": "2025-11-21T10:17:02.881-03:00",
                "provider": 0,
                "documentId": "48213",
                "action": "SIGNATURE-NOK",
                "originalPayload": {"documentId": 48213, "action": "SIGNATURE-NOK", "message": "Não."},
            }
        ).encode(),
    )
    workshop.work()
    found = workshop.show("48213", "certisign")
    assert found["status"] == "declined"
    assert found["events"][0]["origin"] == "hand"
    assert found["events"][0]["message"] == "Não."
    assert found["events"][0]["received_at"] == "2025-11-21T13:17:02.881000+00:00"
    assert workshop.folder_of(entry) is Folder.DONE


def test_a_file_laid_right_into_the_spool_folder_is_processed(workshop: Workshop) -> None:
    entry = workshop.put({"envelopeId": 155, "action": "COMPLETED"})
    path = workshop.spool.path(Folder.SPOOL, entry)
    path.rename(path.parent.parent / path.name)
    workshop.work()
    assert workshop.show("155")["status"] == "completed"
    assert workshop.spool.find(entry.name) == [
        (Folder.DEFERRED, Entry(workshop.clock.today().isoformat(), entry.name))
    ]


WHOLE = {"envelopeId": 1, "originalPayload": {}, "action": "X", "provider": 1, "timestamp": "2026-01-01"}


def altered(without: str = "", **changes: object) -> bytes:
    """A file by hand that lacks a name, or has another value under one."""
    return json.dumps(
        {name: value for name, value in {**WHOLE, **changes}.items() if name != without}
    ).encode()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"not json", "not a JSON object"),
        (b'{"envelopeId": 1}', "timestamp, originalPayload, action missing"),
        (altered(without="envelopeId"), "envelopeId (or documentId) missing"),
        (altered(without="action"), "action missing"),
        (altered(without="provider"), "no provider"),
        (altered(provider=9), "number 9"),
        (altered(provider="one"), "whole number"),
        (altered(timestamp="x"), "timestamp must look like"),
        (altered(envelopeId={}), "this is an object"),
        (b"\xff\xfe", "UTF-8"),
        (b"[" * 5000, "nested"),
    ],
)
def test_a_file_that_cannot_be_understood_is_quarantined_with_its_reason(
    workshop: Workshop, content: bytes, word: str
) -> None:
    entry = workshop.lay(Entry(workshop.clock.today().isoformat(), "1_x.json"), content)
    good = workshop.put({"envelopeId": 155, "action": "PENDING"})
    workshop.work()
    assert workshop.folder_of(entry) is Folder.QUARANTINE
    reason = workshop.spool.reason(entry)
    assert reason is not None
    assert word in reason["reason"]
    assert workshop.folder_of(good) is Folder.DONE


def test_a_half_made_copy_is_left_alone_until_it_is_whole(workshop: Workshop) -> None:
    entry = workshop.lay(Entry(workshop.clock.today().isoformat(), "1_x.json"), b'{"envelopeId": 1')
    moment = workshop.clock.now().timestamp()
    os.utime(workshop.spool.path(Folder.SPOOL, entry), (moment, moment))
    assert workshop.work().skipped == 1
    assert workshop.folder_of(entry) is Folder.SPOOL
    workshop.time.pass_seconds(60)
    workshop.work()
    assert workshop.folder_of(entry) is Folder.QUARANTINE


def test_a_link_is_not_followed(workshop: Workshop, tmp_path: Path) -> None:
    outside = tmp_path / "secret.json"
    outside.write_text('{"envelopeId": 1}')
    entry = Entry(workshop.clock.today().isoformat(), "1_link.json")
    workshop.spool.path(Folder.SPOOL, entry).parent.mkdir(exist_ok=True)
    workshop.spool.path(Folder.SPOOL, entry).symlink_to(outside)
    workshop.work()
    assert workshop.folder_of(entry) is Folder.QUARANTINE
    assert outside.exists()


def test_a_mended_file_moved_back_from_quarantine_is_processed_and_its_reason_goes(
    workshop: Workshop,
) -> None:
    entry = workshop.put({"envelopeId": 155, "action": "PENDING"})
    path = workshop.spool.path(Folder.SPOOL, entry)
    good = path.read_bytes()
    path.write_bytes(good.replace(b'"provider": 1', b'"provider": "one"'))
    workshop.work()
    assert workshop.folder_of(entry) is Folder.QUARANTINE
    in_quarantine = workshop.spool.path(Folder.QUARANTINE, entry)
    in_quarantine.write_bytes(good)
    in_quarantine.rename(path)
    workshop.work()
    assert workshop.folder_of(entry) is Folder.DONE
    assert workshop.spool.reason(entry) is None


@pytest.mark.parametrize(
    "document_id",
    [
        "9007199254740993",
        "123456789012345678901234567890",
        "a/../b",
        "..",
        "x\x00y",
        "a\nb",
        "é" * 2000,
        "🖋️",
        "\ud800",
        "back\\slash",
        "'; drop table documents; --",
    ],
)
def test_ids_stay_exact_on_every_database(workshop: Workshop, document_id: str) -> None:
    workshop.put({"envelopeId": document_id, "action": "EXPIRED"})
    workshop.put({"envelopeId": document_id + "1", "action": "DELETED"})
    workshop.work()
    assert workshop.show(document_id)["document_id"] == document_id
    assert workshop.show(document_id)["status"] == "expired"
    assert workshop.show(document_id + "1")["status"] == "deleted"


class ReaderWithPoison(Reader):
    """Gives one entry a value that no database takes."""

    def read(self, entry: Entry) -> ReadEntry:
        found = super().read(entry)
        if found.events[0].document_id != "666":
            return found
        object.__setattr__(found, "payload_sha256", object())
        return found


def test_one_poisonous_entry_harms_no_other(workshop: Workshop) -> None:
    good = [workshop.put({"envelopeId": number, "action": "EXPIRED"}) for number in range(1, 8)]
    poison = workshop.put({"envelopeId": 666, "action": "EXPIRED"})
    base = workshop.pipeline()
    workshop.work(reader=ReaderWithPoison(workshop.spool, base.reader._providers))
    assert workshop.folder_of(poison) is Folder.QUARANTINE
    assert {workshop.folder_of(entry) for entry in good} == {Folder.DONE}
    assert workshop.show("3")["status"] == "expired"


def test_an_entry_that_kills_the_processor_three_times_is_quarantined_and_others_are_not(
    workshop: Workshop,
) -> None:
    class Killed(BaseException):
        """Ends the pass as a kill would: no handler sees it."""

    class DeadlyReader(Reader):
        def read(self, entry: Entry) -> ReadEntry:
            if entry.name.startswith("666_"):
                raise Killed
            return super().read(entry)

    killer = workshop.put({"envelopeId": 666, "action": "EXPIRED"})
    innocent = [workshop.put({"envelopeId": number, "action": "EXPIRED"}) for number in range(1, 4)]

    def start() -> None:
        in_hand = InHand(workshop.spool.root / ".in-hand.json")
        in_hand.after_start()
        reader = DeadlyReader(workshop.spool, workshop.pipeline().reader._providers)
        workshop.work(in_hand=in_hand, reader=reader)

    for _ in range(3):
        with pytest.raises(Killed):
            start()
    start()
    assert workshop.folder_of(killer) is Folder.QUARANTINE
    assert {workshop.folder_of(entry) for entry in innocent} == {Folder.DONE}


def test_too_many_bad_ones_in_a_row_stop_the_pass(workshop: Workshop) -> None:
    for number in range(8):
        workshop.lay(Entry(workshop.clock.today().isoformat(), f"{number}_x.json"), b"junk")
    workshop.streak_limit = 5
    with pytest.raises(TooManyBadError):
        workshop.work(batch_size=5)
    assert len(list(workshop.spool.entries(Folder.QUARANTINE))) == 5
    assert len(list(workshop.spool.entries(Folder.SPOOL))) == 3


def test_a_lost_database_charges_nobody_and_moves_nothing(workshop: Workshop) -> None:
    entry = workshop.put({"envelopeId": 155, "action": "COMPLETED"})
    gone = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    for _ in range(5):
        with pytest.raises(DatabaseUnavailableError):
            workshop.work(database=gone)
    gone.close()
    assert workshop.folder_of(entry) is Folder.SPOOL
    workshop.work()
    assert workshop.folder_of(entry) is Folder.DEFERRED


def test_a_death_between_recording_and_moving_doubles_nothing(workshop: Workshop) -> None:
    entry = workshop.put({"envelopeId": 155, "action": "COMPLETED"})
    content = workshop.spool.path(Folder.SPOOL, entry).read_bytes()
    workshop.work()
    # As it would be found after the death: recorded, and still in spool/.
    workshop.spool.remove(entry, Folder.DEFERRED)
    workshop.lay(entry, content)
    workshop.work()
    found = workshop.show("155")
    assert len(found["events"]) == 1
    assert len(found["owed"]) == 1
    assert workshop.folder_of(entry) is Folder.DEFERRED


def test_a_lost_database_leaves_nobody_suspected(workshop: Workshop) -> None:
    """Three restarts while the database is away are no three deaths."""
    entry = workshop.put({"envelopeId": 155, "action": "PENDING"})
    gone = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    for _ in range(4):
        in_hand = InHand(workshop.spool.root / ".in-hand.json")
        in_hand.after_start()
        with pytest.raises(DatabaseUnavailableError):
            workshop.work(database=gone, in_hand=in_hand)
    gone.close()
    in_hand = InHand(workshop.spool.root / ".in-hand.json")
    in_hand.after_start()
    workshop.work(in_hand=in_hand)
    assert workshop.folder_of(entry) is Folder.DONE


class BrokenDisk(Spool):
    """A disk that cannot read one file, nor move another."""

    def read(self, folder: Folder, entry: Entry) -> bytes:
        if entry.name.startswith("666_"):
            raise SpoolUnavailableError("input/output error")
        return super().read(folder, entry)

    def move(self, entry: Entry, source: Folder, target: Folder) -> Entry | None:
        if entry.name.startswith("667_"):
            raise SpoolUnavailableError("permission denied")
        return super().move(entry, source, target)


def test_a_file_that_the_disk_does_not_give_or_move_stops_no_other(workshop: Workshop) -> None:
    bad = [workshop.put({"envelopeId": number, "action": "EXPIRED"}) for number in (666, 667)]
    good = [workshop.put({"envelopeId": number, "action": "EXPIRED"}) for number in range(1, 9)]
    whole = workshop.spool
    workshop.spool = BrokenDisk(whole.root, whole.clock)
    assert workshop.work(batch_size=3).skipped == 2
    assert {workshop.folder_of(entry) for entry in good} == {Folder.DONE}
    workshop.spool = whole
    workshop.work()
    assert {workshop.folder_of(entry) for entry in bad} == {Folder.DONE}
    assert len(workshop.show("667")["events"]) == 1


def test_a_disk_that_gives_nothing_at_all_is_our_own_trouble(workshop: Workshop) -> None:
    workshop.put({"envelopeId": 666, "action": "EXPIRED"})
    workshop.spool = BrokenDisk(workshop.spool.root, workshop.spool.clock)
    with pytest.raises(SpoolUnavailableError):
        workshop.work()


@pytest.mark.parametrize("good", [True, False])
def test_a_very_long_name_by_hand_is_handled(workshop: Workshop, good: bool) -> None:
    entry = workshop.put({"envelopeId": 1, "action": "EXPIRED"})
    content = workshop.spool.path(Folder.SPOOL, entry).read_bytes()
    workshop.spool.remove(entry, Folder.SPOOL)
    long = Entry(entry.day, "é" * 125 + ".json")
    (workshop.spool.folder(Folder.QUARANTINE) / entry.day).mkdir()
    workshop.lay(long, content if good else b"junk")
    workshop.work()
    assert workshop.folder_of(long) is (Folder.DONE if good else Folder.QUARANTINE)
    assert (workshop.spool.reason(long) is None) is good


def test_good_ones_in_between_are_no_row_of_bad_ones(workshop: Workshop) -> None:
    for number in range(10):
        workshop.lay(Entry(workshop.clock.today().isoformat(), f"{number}_x.json"), b"junk")
    good = workshop.put({"envelopeId": 155, "action": "PENDING"})
    workshop.streak_limit = 5
    assert workshop.work().quarantined == 10
    assert workshop.folder_of(good) is Folder.DONE


def test_after_a_row_of_bad_ones_one_at_a_time_is_risked(workshop: Workshop) -> None:
    for number in range(9):
        workshop.lay(Entry(workshop.clock.today().isoformat(), f"{number}_x.json"), b"junk")
    workshop.streak_limit = 5
    pipeline = workshop.pipeline(batch_size=5)
    left = []
    for _ in range(3):
        with pytest.raises(TooManyBadError):
            pipeline.work_through(threading.Event())
        left.append(len(list(workshop.spool.entries(Folder.SPOOL))))
    assert left == [4, 3, 2]


def test_a_file_whose_time_lies_in_the_future_is_not_young_for_ever(workshop: Workshop) -> None:
    entry = workshop.lay(Entry(workshop.clock.today().isoformat(), "1_x.json"), b"junk")
    moment = workshop.clock.now().timestamp() + 1e6
    os.utime(workshop.spool.path(Folder.SPOOL, entry), (moment, moment))
    workshop.work()
    assert workshop.folder_of(entry) is Folder.QUARANTINE

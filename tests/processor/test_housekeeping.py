"""What is done once a day: in order, by one process at a time, and again when it was interrupted."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import update

from processor.alone import alone
from processor.daylists import DayLists
from processor.history import History
from processor.housekeeping import LOCK, Housekeeping, Kept
from processor.retention import Retention
from shared.db.models import EventRow
from shared.errors import SpoolUnavailableError
from shared.spool import Entry, Folder
from tests.processor.conftest import Workshop

DAY_SECONDS = 86_400.0
NO_STOP = threading.Event()


def make_housekeeping(workshop: Workshop) -> Housekeeping:
    return Housekeeping(
        workshop.spool,
        DayLists(workshop.spool),
        Retention(workshop.spool, {Folder.DONE: 5 * DAY_SECONDS}, reasons_seconds=5 * DAY_SECONDS),
        History(workshop.database, workshop.clock, keep_seconds=5 * DAY_SECONDS),
    )


def finish(workshop: Workshop, days_ago: int) -> str:
    """Lay a finished entry into `done/`; its day."""
    day = (workshop.clock.today() - timedelta(days=days_ago)).isoformat()
    entry = workshop.put({"envelopeId": days_ago, "action": "COMPLETED"}, day=day)
    assert workshop.spool.move(entry, Folder.SPOOL, Folder.DONE)
    return day


def test_a_day_is_listed_before_it_goes(workshop: Workshop) -> None:
    old, young = finish(workshop, 9), finish(workshop, 2)
    housekeeping = make_housekeeping(workshop)
    assert housekeeping.work(NO_STOP) == Kept([old, young], days=1, is_whole=True)
    assert workshop.spool.days(Folder.DONE) == [young]
    finish(workshop, 9)
    assert housekeeping.work(NO_STOP) == Kept(is_whole=True)
    workshop.time.pass_seconds(DAY_SECONDS)
    assert housekeeping.work(NO_STOP).days == 1


def test_nothing_goes_that_could_not_be_listed_and_the_next_call_goes_on(workshop: Workshop) -> None:
    finish(workshop, 9)
    housekeeping, stop = make_housekeeping(workshop), threading.Event()
    stop.set()
    assert not housekeeping.work(stop).is_whole
    assert len(list(workshop.spool.entries(Folder.DONE))) == 1
    assert housekeeping.work(NO_STOP).days == 1


def test_two_processes_do_not_keep_one_spool_at_once(workshop: Workshop) -> None:
    finish(workshop, 9)
    housekeeping = make_housekeeping(workshop)
    with alone(workshop.spool.root / LOCK) as is_ours:
        assert is_ours
        assert housekeeping.work(NO_STOP) == Kept()
    assert housekeeping.work(NO_STOP).is_whole


def test_reasons_go_whose_entry_a_person_took_away_and_the_others_stay(workshop: Workshop) -> None:
    """Entries in quarantine are never dropped, and their reasons stay with them."""
    names = {}
    for days_ago in (9, 2):
        day = (workshop.clock.today() - timedelta(days=days_ago)).isoformat()
        for name in ("kept.json", "taken.json", f"{'x' * 230}.json"):
            workshop.spool.quarantine(workshop.lay(Entry(day, name), b"{"), Folder.SPOOL, {"reason": "x"})
        workshop.spool.path(Folder.QUARANTINE, Entry(day, "taken.json")).rename(
            workshop.spool.root / name[:9]
        )
        names[days_ago] = workshop.spool.folder(Folder.QUARANTINE) / day
    retention = Retention(workshop.spool, {}, reasons_seconds=5 * DAY_SECONDS)
    assert retention.expired().reasons == [f"quarantine/{names[9].name}/taken.reason.json"]
    retention.drop(NO_STOP)
    assert len(list(names[9].iterdir())) == 4
    assert len(list(names[2].iterdir())) == 5


def test_a_folder_that_cannot_be_deleted_does_not_keep_the_history_in_the_database(
    workshop: Workshop,
) -> None:
    """It is said, and tried again by the next call."""
    workshop.put({"envelopeId": 155, "action": "DELETED"})
    workshop.work()
    with workshop.database.transaction() as connection:
        connection.execute(update(EventRow).values(settled_at=workshop.clock.now()))
    workshop.time.pass_seconds(9 * DAY_SECONDS)
    housekeeping = make_housekeeping(workshop)
    # A folder stands where only a file can.
    stuck = workshop.spool.folder(Folder.QUARANTINE) / "2020-01-01" / "x.reason.json"
    stuck.mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(SpoolUnavailableError, match="delete"):
            housekeeping.work(NO_STOP)
    assert workshop.show("155")["history_dropped_at"] is not None
    stuck.rmdir()
    assert housekeeping.work(NO_STOP).is_whole

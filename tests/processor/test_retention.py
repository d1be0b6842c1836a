"""Whole days go when their time is over, and nothing else."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from processor.retention import Retention
from shared.errors import SpoolUnavailableError
from shared.spool import Entry, Folder, Spool
from tests.doubles import FakeTime

DAY = 86_400.0


def make_spool(tmp_path: Path, time: FakeTime, ages: list[int]) -> Spool:
    """A spool with one entry in every folder for each age in days."""
    spool = Spool(tmp_path, time.clock())
    spool.initialise()
    for folder in Folder:
        for age in ages:
            day = (time.clock().today() - timedelta(days=age)).isoformat()
            path = spool.path(folder, Entry(day, "1_x.json"))
            path.parent.mkdir()
            path.write_text("{}")
    return spool


def test_days_beyond_their_time_go_and_only_from_done_and_refused(tmp_path: Path) -> None:
    time = FakeTime()
    spool = make_spool(tmp_path, time, [0, 1, 5, 6, 40])
    keep = Retention(spool, {Folder.DONE: 5 * DAY, Folder.REFUSED: 30 * DAY})
    assert keep.drop(threading.Event()) == 3
    today = time.clock().today()
    assert spool.days(Folder.DONE) == [(today - timedelta(days=age)).isoformat() for age in (0, 1, 5)]
    assert len(spool.days(Folder.REFUSED)) == 4
    for folder in (Folder.SPOOL, Folder.DEFERRED, Folder.QUARANTINE):
        assert len(spool.days(folder)) == 5


def test_what_is_no_day_is_left_alone(tmp_path: Path) -> None:
    time = FakeTime()
    spool = make_spool(tmp_path, time, [])
    notes = spool.folder(Folder.DONE) / "kept-by-hand"
    notes.mkdir()
    Retention(spool, {Folder.DONE: 0.0}).drop(threading.Event())
    assert notes.is_dir()


def test_empty_folders_of_delivered_files_go_and_full_ones_stay(tmp_path: Path) -> None:
    time = FakeTime()
    spool = make_spool(tmp_path, time, [])
    empty = spool.files / "2020-01-01" / "one"
    full = spool.files / "2020-01-02" / "one"
    todays = spool.files / time.clock().today().isoformat() / "one"
    for folder in (empty, full, todays):
        folder.mkdir(parents=True)
    (full / "contract.pdf").write_bytes(b"%PDF-")
    Retention(spool, {}).drop(threading.Event())
    assert not empty.parent.exists()
    assert (full / "contract.pdf").exists()
    assert todays.exists()


def test_folders_of_files_that_somebody_else_takes_away_meanwhile_are_no_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Today's come and go while files are fetched and delivered, and are not looked into."""
    time = FakeTime()
    spool = make_spool(tmp_path, time, [])
    old = spool.files / "2020-01-01"
    todays = spool.files / time.clock().today().isoformat()
    for folder in (old / "one", old / "two", todays / "one"):
        folder.mkdir(parents=True)
    list_folder = os.scandir

    def list_too_late(path: str | Path | int = ".") -> object:
        if not isinstance(path, int) and Path(path).name in ("one", "two"):
            shutil.rmtree(path)
        return list_folder(path)

    monkeypatch.setattr(os, "scandir", list_too_late)
    Retention(spool, {}).drop(threading.Event())
    assert not old.exists()
    assert (todays / "one").exists()


def test_it_looks_once_a_day(tmp_path: Path) -> None:
    time = FakeTime()
    spool = make_spool(tmp_path, time, [3])
    keep = Retention(spool, {Folder.DONE: 5 * DAY})
    assert keep.drop(threading.Event()) == 0
    time.pass_seconds(2 * DAY)
    assert keep.drop(threading.Event()) == 0
    time.pass_seconds(DAY)
    assert keep.drop(threading.Event()) == 1


def test_days_long_past_that_are_empty_go_from_the_other_folders_and_full_ones_stay(tmp_path: Path) -> None:
    time = FakeTime()
    ages = [-1, 0, 1, 2, 3]
    spool = make_spool(tmp_path, time, ages)
    kept = {}
    for folder in (Folder.SPOOL, Folder.DEFERRED, Folder.QUARANTINE):
        days = spool.days(folder)
        for day in days[:-1]:
            spool.remove(Entry(day, "1_x.json"), folder)
        # Tomorrow, today, yesterday, and the one that is not empty.
        kept[folder] = [*days[:3], days[-1]]
    Retention(spool, {}).drop(threading.Event())
    assert {folder: spool.days(folder) for folder in kept} == kept


def test_a_stop_ends_the_deleting_and_the_next_time_goes_on(tmp_path: Path) -> None:
    time = FakeTime()
    spool = make_spool(tmp_path, time, [40])
    keep = Retention(spool, {Folder.DONE: 5 * DAY})
    stop = threading.Event()
    stop.set()
    assert keep.drop(stop) == 0
    assert len(list(spool.entries(Folder.DONE))) == 1
    stop.clear()
    assert keep.drop(stop) == 1
    assert spool.days(Folder.DONE) == []


NOBODY = 65534


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may delete everything; in the block this process is an ordinary user."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_day_that_cannot_be_deleted_keeps_no_other_from_going_and_is_tried_again() -> None:
    """Somebody changed its rights, by a restore for instance: it is said, and the disk does not fill up."""
    with tempfile.TemporaryDirectory() as home:
        spool = make_spool(Path(home) / "root", FakeTime(), [38, 39, 40])
        locked = spool.folder(Folder.DONE) / spool.days(Folder.DONE)[-1]
        locked.chmod(0o555)
        if os.geteuid() == 0:
            for path in (Path(home), *Path(home).rglob("*")):
                os.chown(path, NOBODY, NOBODY)
        keep = Retention(spool, {Folder.DONE: 5 * DAY, Folder.REFUSED: 5 * DAY})
        with as_nobody(), pytest.raises(SpoolUnavailableError, match=f"done/{locked.name}: Permission"):
            keep.drop(threading.Event())
        assert (spool.days(Folder.DONE), spool.days(Folder.REFUSED)) == ([locked.name], [])
        locked.chmod(0o755)
        with as_nobody():
            assert keep.drop(threading.Event()) == 1
        assert spool.days(Folder.DONE) == []


def test_a_day_that_was_moved_to_another_disk_goes_with_its_link(tmp_path: Path) -> None:
    spool = make_spool(tmp_path / "root", FakeTime(), [40])
    [day] = spool.days(Folder.DONE)
    elsewhere = (spool.folder(Folder.DONE) / day).rename(tmp_path / "elsewhere")
    (spool.folder(Folder.DONE) / day).symlink_to(elsewhere)
    assert Retention(spool, {Folder.DONE: 5 * DAY}).drop(threading.Event()) == 1
    assert (spool.days(Folder.DONE), list(elsewhere.iterdir())) == ([], [])
    assert not (spool.folder(Folder.DONE) / day).is_symlink()

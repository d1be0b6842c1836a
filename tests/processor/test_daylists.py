"""The lists of digests: what stands in them, when they are made, and that `sha256sum` agrees."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from processor.chain import Chain, unlisted_days
from processor.daylists import DayLists, Line, parse_line
from processor.retention import Retention
from shared.clock import Clock
from shared.spool import Entry, Folder, Spool
from tests.meanwhile import right_after

NO_STOP = threading.Event()
DAY_SECONDS = 86_400.0


class Calendar:
    """A clock that can be put forward from the real time, which the times of files go by."""

    def __init__(self) -> None:
        # Not in the first minutes of a day, when the list of the day before is not made yet.
        self.ahead = -timedelta(hours=datetime.now(UTC).hour == 0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def day(self, age: int) -> str:
        """The day that many days ago."""
        return (self.now().date() - timedelta(days=age)).isoformat()


class Archive:
    """A spool of which `done/` alone matters."""

    def __init__(self, root: Path) -> None:
        self.calendar = Calendar()
        self.spool = Spool(root, Clock(UTC, self.calendar.now))
        self.spool.initialise()
        self.lists = DayLists(self.spool)
        self.done = self.spool.folder(Folder.DONE)

    def settle(self, day: str, name: str, content: str = "{}") -> Path:
        """Move a file into `done/`, as the daemon does."""
        entry = Entry(day, name)
        deferred = self.spool.path(Folder.DEFERRED, entry)
        deferred.parent.mkdir(exist_ok=True)
        deferred.write_text(content)
        assert self.spool.move(entry, Folder.DEFERRED, Folder.DONE) == entry
        return self.spool.path(Folder.DONE, entry)

    def listed(self, day: str) -> list[str]:
        """The paths in a list, in their order of writing."""
        return [parse_line(line).path for line in self.lists.lines(day)]

    def faults(self) -> list[str]:
        return [f"{fault.path}: {fault.text}" for fault in Chain(self.spool).verify().faults]

    def sha256sum(self, day: str) -> subprocess.CompletedProcess[str]:
        """What people type years later."""
        if shutil.which("sha256sum") is None:
            pytest.skip("sha256sum is not installed")
        return subprocess.run(
            ["sha256sum", "--check", "--strict", f"{day}.sha256"],
            cwd=self.done,
            capture_output=True,
            encoding="latin-1",
            check=False,
        )


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "root")


def test_each_day_has_its_list_with_the_digest_of_the_one_before(archive: Archive) -> None:
    """Today has none yet, a day without files has none at all, and whoever makes them again makes nothing."""
    old, middle, yesterday, today = map(archive.calendar.day, (4, 2, 1, 0))
    for day in (old, middle, yesterday, today):
        archive.settle(day, f"{day}.json", day)
    assert archive.lists.make(NO_STOP) == [old, middle, yesterday]
    assert archive.lists.make(NO_STOP) == []
    assert archive.lists.days() == [old, middle, yesterday]
    assert archive.listed(old) == [f"{old}/{old}.json"]
    assert archive.listed(middle) == [f"{old}.sha256", f"{middle}/{middle}.json"]
    assert archive.listed(yesterday) == [f"{middle}.sha256", f"{yesterday}/{yesterday}.json"]
    for day in (old, middle, yesterday):
        done = archive.sha256sum(day)
        assert (done.returncode, done.stderr) == (0, "")
    assert archive.faults() == []


def test_a_file_that_is_finished_late_stands_in_the_next_list_and_no_list_is_written_again(
    archive: Archive,
) -> None:
    old, yesterday, today = map(archive.calendar.day, (3, 1, 0))
    archive.settle(old, "1.json")
    archive.settle(yesterday, "2.json")
    archive.lists.make(NO_STOP)
    before = {path: path.read_bytes() for path in archive.done.glob("*.sha256")}
    archive.settle(old, "3.json")
    assert Chain(archive.spool).verify().unlisted == [f"{old}/3.json"]
    archive.calendar.ahead += timedelta(days=1)
    assert archive.lists.make(NO_STOP) == [today]
    assert archive.listed(today) == [f"{yesterday}.sha256", f"{old}/3.json"]
    assert {path: path.read_bytes() for path in before} == before
    assert archive.sha256sum(today).returncode == 0
    assert (archive.faults(), Chain(archive.spool).verify().unlisted) == ([], [])


def test_a_daemon_that_was_away_for_days_makes_every_list(archive: Archive) -> None:
    """In order, each with the one before."""
    first, day, today = map(archive.calendar.day, (1, 0, -2))
    archive.settle(first, "1.json")
    archive.lists.make(NO_STOP)
    archive.settle(day, "2.json")
    archive.settle(today, "3.json")
    archive.settle(first, "late.json")
    archive.calendar.ahead += timedelta(days=4)
    yesterday = archive.calendar.day(1)
    assert unlisted_days(archive.spool) == [today, day]
    assert archive.lists.make(NO_STOP) == [day, today, yesterday]
    assert archive.listed(yesterday) == [f"{today}.sha256", f"{first}/late.json"]
    assert (archive.faults(), unlisted_days(archive.spool)) == ([], [])


class StopAfter(threading.Event):
    """Is set once it was asked so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def is_set(self) -> bool:
        self.times -= 1
        return self.times < 0


@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_list_is_whole_or_not_there_when_its_making_is_stopped(archive: Archive, times: int) -> None:
    """Before its first file, and in the middle. The next start makes it."""
    day = archive.calendar.day(1)
    for number in range(4):
        archive.settle(day, f"{number}.json")
    assert archive.lists.make(StopAfter(times)) == []
    assert [path.name for path in archive.done.iterdir()] == [day]
    assert archive.lists.make(NO_STOP) == [day]


def test_the_list_of_a_day_waits_some_minutes_for_what_is_settled_in_its_last_moment(
    archive: Archive,
) -> None:
    yesterday = archive.calendar.day(1)
    archive.settle(yesterday, "1.json")
    midnight = datetime.combine(archive.calendar.now().date(), datetime.min.time(), UTC)
    for minutes, made in ((4, []), (6, [yesterday])):
        moment = midnight + timedelta(minutes=minutes)
        archive.spool.clock = Clock(UTC, partial(moment.astimezone, UTC))
        assert archive.lists.make(NO_STOP) == made


@pytest.mark.parametrize("name", ["a\nb.json", "a\\b.json", "a\rb.json", "ä.json", b"\xff.json", " a *.json"])
def test_any_name_is_written_as_sha256sum_reads_it(archive: Archive, name: str | bytes) -> None:
    """What people name by hand may have any byte in it."""
    day = archive.calendar.day(1)
    archive.settle(day, os.fsdecode(name))
    archive.lists.make(NO_STOP)
    assert archive.listed(day) == [f"{day}/{os.fsdecode(name)}"]
    assert archive.sha256sum(day).returncode == 0
    assert archive.faults() == []


@pytest.mark.parametrize("line", [b"", b"\n", b"x  y\n", b"%b y\n" % (b"0" * 64), b"%b  y\n" % (b"0" * 63)])
def test_what_is_no_line_is_said_to_be_none(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a line"):
        parse_line(line)
    assert parse_line(Line("0" * 64, "a/b").to_bytes()) == Line("0" * 64, "a/b")


def test_what_is_no_plain_file_is_passed_over(archive: Archive) -> None:
    """A link, a folder and a file being written are no evidence."""
    day = archive.calendar.day(1)
    archive.settle(day, "1.json")
    (archive.done / day / "link.json").symlink_to("/etc/hostname")
    (archive.done / day / "folder.json").mkdir()
    (archive.done / day / ".half.tmp").touch()
    archive.lists.make(NO_STOP)
    assert archive.listed(day) == [f"{day}/1.json"]


def test_what_was_altered_is_found(archive: Archive) -> None:
    """A file, an older list, a list that is gone, and a line that is none; each is named."""
    days = [archive.calendar.day(age) for age in (4, 3, 2, 1)]
    for day in days:
        archive.settle(day, "1.json")
    archive.lists.make(NO_STOP)
    (archive.done / days[0] / "1.json").write_text("[]")
    assert archive.faults() == [f"{days[0]}/1.json: was altered: its digest is not the one in the list"]

    # Whoever alters the list of the day too would have to alter every later one.
    path = archive.lists.path(days[0])
    path.chmod(0o640)
    shutil.copyfile(archive.lists.path(days[1]), path)
    assert (
        f"{days[0]}.sha256: was altered: it is not the list that {days[1]}.sha256 names" in archive.faults()
    )

    archive.lists.path(days[1]).unlink()
    assert f"{days[1]}.sha256: is missing, and {days[2]}.sha256 names it" in archive.faults()
    assert f"{days[2]}.sha256: does not name the list before it, {days[0]}.sha256" in archive.faults()

    newest = archive.lists.path(days[3])
    newest.chmod(0o640)
    newest.write_bytes(newest.read_bytes() + b"nonsense\n" + Line("0" * 64, "../x").to_bytes())
    said = archive.faults()
    assert f"{days[3]}.sha256: entry 3 of the list is not a line of sha256sum" in said
    assert "../x: leads out of done/: no list of ours names it" in said


def test_a_file_that_is_gone_is_missing_unless_it_is_explained(archive: Archive) -> None:
    """Put back to be handled again, it is elsewhere; and when its day has expired, that is known."""
    day = archive.calendar.day(2)
    paths = [archive.settle(day, f"{number}.json", str(number)) for number in range(3)]
    archive.lists.make(NO_STOP)
    archive.spool.move(Entry(day, "0.json"), Folder.DONE, Folder.SPOOL)
    paths[1].unlink()
    found = Chain(archive.spool).verify()
    assert found.files == {"elsewhere": 1, "missing": 1, "sound": 1}
    assert [fault.path for fault in found.faults] == [f"{day}/1.json"]
    assert Chain(archive.spool).verify(files=False).faults == []
    # Altered where it lies now.
    archive.spool.path(Folder.SPOOL, Entry(day, "0.json")).write_text("[]")
    assert len(Chain(archive.spool).verify().faults) == 2

    retention = Retention(archive.spool, {Folder.DONE: DAY_SECONDS})
    assert retention.drop(NO_STOP) == 1
    assert Chain(archive.spool).verify().files == {"expired": 3}
    assert archive.faults() == []


def test_the_note_of_an_expired_day_is_listed_and_one_day_goes_with_the_old_lists(archive: Archive) -> None:
    """The newest list stays whatever its age; that the oldest names one which is gone is as it should be."""
    days = [archive.calendar.day(age) for age in (3, 2, 1)]
    for day in days:
        archive.settle(day, "1.json")
    archive.lists.make(NO_STOP)
    keep = {"lists_seconds": 9 * DAY_SECONDS}
    assert Retention(archive.spool, {Folder.DONE: DAY_SECONDS}, **keep).drop(NO_STOP) == 2
    today = archive.calendar.day(0)
    archive.settle(today, "2.json")
    archive.calendar.ahead += timedelta(days=1)
    archive.lists.make(NO_STOP)
    assert {f"{days[0]}.expired", f"{days[1]}.expired"} < set(archive.listed(today))
    assert archive.faults() == []

    archive.calendar.ahead += timedelta(days=9)
    assert archive.lists.make(NO_STOP) == []
    retention = Retention(archive.spool, {}, **keep)
    assert retention.expired().lists == [
        f"done/{name}" for day in days[:2] for name in (f"{day}.expired", f"{day}.sha256")
    ] + [f"done/{days[2]}.sha256"]
    retention.drop(NO_STOP)
    assert archive.lists.days() == [today]
    assert archive.faults() == []
    assert date.fromisoformat(today)


def test_a_day_is_noted_as_expired_before_its_first_file_goes(archive: Archive) -> None:
    """A death in the middle leaves nothing unexplained."""
    day = archive.calendar.day(5)
    archive.settle(day, "1.json")
    archive.lists.make(NO_STOP)
    stop = threading.Event()
    stop.set()
    Retention(archive.spool, {Folder.DONE: DAY_SECONDS}).drop(stop)
    assert (archive.done / day / "1.json").exists()
    assert archive.lists.expired() == [day]


def test_what_retention_deletes_while_it_is_verified_is_not_missing(archive: Archive) -> None:
    """To verify takes long, and an alarm would be about nobody."""
    days = [archive.calendar.day(age) for age in (4, 3, 2, 1)]
    for day in days:
        archive.settle(day, "1.json")
    archive.lists.make(NO_STOP)
    retention = Retention(archive.spool, {Folder.DONE: 2 * DAY_SECONDS})
    looked_at = archive.done / days[0] / "1.json"
    with right_after("open", lambda path: path == looked_at, lambda: retention.drop(NO_STOP)):
        found = Chain(archive.spool).verify()
    assert found.faults == []
    assert found.files == {"sound": 3, "expired": 1}

"""How many entries lie in each folder, and since when the oldest: looked at without reading any."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from processor import census
from processor.census import Census, Count
from shared.clock import Clock
from shared.spool import Entry, Folder, Spool

DAY = "2026-11-21"
HOUR_SECONDS = 3600.0


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "root", Clock(UTC))
    made.initialise()
    return made


def lay(
    spool: Spool, name: str, folder: Folder = Folder.SPOOL, day: str = DAY, age_seconds: float = 0
) -> Path:
    """A file of a name that was changed that long ago."""
    path = spool.path(folder, Entry(day, name))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"{}")
    changed_at = time.time() - age_seconds
    os.utime(path, (changed_at, changed_at))
    return path


def guid_of(at: float) -> str:
    """A UUID version 7 of a moment."""
    digits = f"{int(at * 1000):012x}"
    return f"{digits[:8]}-{digits[8:]}-7000-8000-000000000000"


def test_each_folder_has_its_count_and_reason_files_are_none(spool: Spool) -> None:
    lay(spool, "1.json")
    lay(spool, "2.json", day="2026-11-20")
    lay(spool, "by-hand.json", day="")
    lay(spool, "3.json", Folder.QUARANTINE)
    lay(spool, "3.reason.json", Folder.QUARANTINE)
    lay(spool, ".hidden.json", Folder.DONE)
    counts = Census(spool).take()
    assert {str(folder): count.entries for folder, count in counts.items()} == {
        "spool": 3,
        "deferred": 0,
        "done": 0,
        "quarantine": 1,
        "refused": 0,
    }


def test_the_oldest_is_known_by_the_guid_of_its_name_else_by_its_file(spool: Spool) -> None:
    """A file that was moved back has a young file and an old guid; one by hand has no guid, or another's."""
    arrived_at = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
    lay(spool, f"155_{guid_of(arrived_at)}.json")
    lay(spool, f"156_{guid_of(arrived_at + 5)}.json")
    found = Census(spool).take()
    assert found[Folder.SPOOL] == Count(2, arrived_at)
    assert found[Folder.DEFERRED] == Count(0, None)

    lay(spool, "by-hand.json", Folder.DEFERRED, age_seconds=HOUR_SECONDS)
    lay(spool, "155_11111111-2222-4333-8444-555555555555.json", Folder.DEFERRED, age_seconds=2 * HOUR_SECONDS)
    oldest_at = Census(spool).take()[Folder.DEFERRED].oldest_at
    assert oldest_at == pytest.approx(time.time() - 2 * HOUR_SECONDS, abs=60)


def test_a_day_that_has_not_changed_is_not_listed_again(spool: Spool) -> None:
    """The cost follows what happens, not what is kept. A change that leaves no trace is the proof."""
    folder = lay(spool, "1.json", Folder.DONE).parent
    long_ago = time.time() - HOUR_SECONDS
    os.utime(folder, (long_ago, long_ago))
    looked = Census(spool)
    assert looked.take()[Folder.DONE].entries == 1
    lay(spool, "2.json", Folder.DONE)
    os.utime(folder, (long_ago, long_ago))
    assert looked.take()[Folder.DONE].entries == 1
    lay(spool, "3.json", Folder.DONE)
    assert looked.take()[Folder.DONE].entries == 3


def test_a_day_that_changed_just_now_is_listed_again(spool: Spool) -> None:
    """Two changes within one tick of the clock would look like one."""
    folder = lay(spool, "1.json").parent
    looked = Census(spool)
    looked.take()
    changed = folder.stat().st_mtime_ns
    lay(spool, "2.json")
    os.utime(folder, ns=(changed, changed))
    assert looked.take()[Folder.SPOOL].entries == 2


def test_what_went_away_is_forgotten(spool: Spool) -> None:
    path = lay(spool, "1.json")
    looked = Census(spool)
    looked.take()
    path.unlink()
    path.parent.rmdir()
    assert looked.take()[Folder.SPOOL] == Count(0, None)


def test_no_more_than_so_many_are_counted_and_the_oldest_day_is_among_them(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "MOST_COUNTED", 5)
    for number in range(4):
        lay(spool, f"{number}.json", day="2026-11-22")
        lay(spool, f"{number}.json", day="2026-11-20", age_seconds=HOUR_SECONDS)
    count = Census(spool).take()[Folder.SPOOL]
    assert count.entries == 5
    assert count.oldest_at == pytest.approx(time.time() - HOUR_SECONDS, abs=60)


def touch(spool: Spool, folder: Folder, age_seconds: float = 0) -> Path:
    """Say that what lies in a folder is known, since so long."""
    path = spool.folder(folder) / census.SEEN
    path.touch()
    seen_at = time.time() - age_seconds
    os.utime(path, (seen_at, seen_at))
    return path


def quarantine(spool: Spool, name: str, age_seconds: float) -> None:
    """An entry that came to quarantine so long ago, and to the door an hour before."""
    lay(spool, name, Folder.QUARANTINE, age_seconds=age_seconds + HOUR_SECONDS)
    lay(spool, name.replace(".json", ".reason.json"), Folder.QUARANTINE, age_seconds=age_seconds)


def test_what_came_to_quarantine_after_a_person_looked_is_unseen(spool: Spool) -> None:
    """It is the time of its reason that counts: an entry is tried for a day before it goes there."""
    quarantine(spool, "1.json", 300)
    quarantine(spool, "2.json", 100)
    found = Census(spool).take()[Folder.QUARANTINE]
    assert (found.entries, found.unseen) == (2, 2)
    assert found.oldest_unseen_at == pytest.approx(time.time() - 300, abs=60)
    touch(spool, Folder.QUARANTINE, 200)
    found = Census(spool).take()[Folder.QUARANTINE]
    assert (found.entries, found.unseen) == (2, 1)
    assert found.oldest_unseen_at == pytest.approx(time.time() - 100, abs=60)
    assert found.oldest_at == pytest.approx(time.time() - 300 - HOUR_SECONDS, abs=60)
    touch(spool, Folder.QUARANTINE)
    found = Census(spool).take()[Folder.QUARANTINE]
    assert (found.entries, found.unseen, found.oldest_unseen_at) == (2, 0, None)


def test_a_file_that_somebody_moved_to_quarantine_came_there_then(spool: Spool) -> None:
    """Without a reason its own time would be that of its arrival."""
    touch(spool, Folder.QUARANTINE, HOUR_SECONDS)
    path = lay(spool, "1.json", age_seconds=2 * HOUR_SECONDS)
    target = spool.path(Folder.QUARANTINE, Entry(DAY, "1.json"))
    target.parent.mkdir(exist_ok=True)
    path.rename(target)
    assert Census(spool).take()[Folder.QUARANTINE].unseen == 1


def test_of_what_is_owed_the_time_of_arrival_counts(spool: Spool) -> None:
    lay(spool, "1.json", Folder.DEFERRED, age_seconds=300)
    lay(spool, "2.json", Folder.DEFERRED, age_seconds=100)
    touch(spool, Folder.DEFERRED, 200)
    found = Census(spool).take()[Folder.DEFERRED]
    assert (found.entries, found.unseen) == (2, 1)
    assert found.oldest_unseen_at == pytest.approx(time.time() - 100, abs=60)


def test_to_touch_again_counts_at_once_and_to_remove_it_too(spool: Spool) -> None:
    """Also for days that have not changed since they were listed."""
    quarantine(spool, "1.json", 300)
    folder = spool.folder(Folder.QUARANTINE) / DAY
    long_ago = time.time() - HOUR_SECONDS
    os.utime(folder, (long_ago, long_ago))
    looked = Census(spool)
    assert looked.take()[Folder.QUARANTINE].unseen == 1
    seen = touch(spool, Folder.QUARANTINE)
    assert looked.take()[Folder.QUARANTINE].unseen == 0
    seen.unlink()
    assert looked.take()[Folder.QUARANTINE].unseen == 1


def test_a_mark_of_a_time_to_come_hides_nothing(spool: Spool) -> None:
    """It would silence what nobody can have seen."""
    quarantine(spool, "1.json", 300)
    touch(spool, Folder.QUARANTINE, -HOUR_SECONDS)
    assert Census(spool).take()[Folder.QUARANTINE].unseen == 1


def test_there_is_nothing_to_be_seen_in_other_folders(spool: Spool) -> None:
    """What waits to be recorded may not wait, whoever knows of it."""
    lay(spool, "1.json")
    touch(spool, Folder.SPOOL)
    assert Census(spool).take()[Folder.SPOOL].unseen == 0
    assert Census(spool).take()[Folder.SPOOL].entries == 1

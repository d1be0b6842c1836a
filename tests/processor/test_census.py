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

"""The watcher names what arrives, sees new and replaced folders, and is silent about what we move away."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog

from processor.arrivals import Arrivals
from processor.watch import watch
from shared.clock import Clock
from shared.spool import Entry, Folder, Spool

pytestmark = pytest.mark.anyio
DEADLINE_SECONDS = 90.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Watched:
    """A spool, what was seen in it, and how often somebody was told to look."""

    spool: Spool
    day: str
    arrivals: Arrivals = field(default_factory=Arrivals)
    looks: int = 0
    listings: int = 0

    def look(self) -> None:
        self.looks += 1
        self.listings += self.arrivals.listing_needed()

    def bring(self, name: str, *, day: str | None = None) -> Entry:
        """Lay a file into the spool as the door does."""
        entry = Entry(self.day if day is None else day, name)
        made = self.spool.temporary / name
        made.write_text("{}")
        made.rename(self.spool.path(Folder.SPOOL, entry))
        return entry

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():  # noqa: ASYNC110  (nobody tells a test what the file system does)
                await asyncio.sleep(0.01)

    async def named(self, entry: Entry) -> set[Entry]:
        """Wait until the watcher tells of an entry; returns all that it told of."""
        told: set[Entry] = set()

        def known() -> bool:
            told.update(self.arrivals.take(100))
            return entry in told

        await self.until(known)
        return told


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    spool = Spool(tmp_path / "root", Clock())
    spool.initialise()
    spool.make_day_folders()
    return Watched(spool, spool.clock.today().isoformat())


@contextlib.asynccontextmanager
async def watching(watched: Watched) -> AsyncIterator[None]:
    """The watcher at work; a listing was called for when it began."""
    stop = asyncio.Event()
    task = asyncio.create_task(watch(watched.spool, watched.arrivals, watched.look, stop))
    try:
        await watched.until(lambda: watched.listings == 1)
        yield
    finally:
        stop.set()
        await task


async def test_it_names_what_arrives(watched: Watched) -> None:
    async with watching(watched):
        await watched.named(watched.bring("155_a.json"))
        await watched.named(watched.bring("laid-right-in.json", day=""))


async def test_it_names_what_arrives_below_a_root_that_is_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is where nobody wrote settings."""
    monkeypatch.chdir(tmp_path)
    spool = Spool(Path("data"), Clock())
    spool.initialise()
    spool.make_day_folders()
    watched = Watched(spool, spool.clock.today().isoformat())
    async with watching(watched):
        await watched.named(watched.bring("155_a.json"))
        shutil.rmtree(spool.folder(Folder.SPOOL) / watched.day)
        spool.make_day_folders()
        await watched.until(lambda: watched.listings > 1)
        await watched.named(watched.bring("156_b.json"))


async def test_what_lay_there_before_is_left_to_a_listing(watched: Watched) -> None:
    watched.bring("155_a.json")
    async with watching(watched):
        await watched.named(watched.bring("156_b.json"))
    assert watched.listings == 1


async def test_what_is_no_entry_or_was_moved_away_is_not_told_of(watched: Watched) -> None:
    async with watching(watched):
        moved = [watched.bring(f"{number}_a.json") for number in range(5)]
        await watched.named(moved[-1])
        for entry in moved:
            watched.spool.move(entry, Folder.SPOOL, Folder.DONE)
        for name in ("notes.txt", ".hidden.json", "a.reason.json"):
            watched.bring(name)
        told = await watched.named(last := watched.bring("155_last.json"))
    assert told == {last}


async def test_a_day_folder_that_is_made_later_is_listed_and_watched(watched: Watched) -> None:
    async with watching(watched):
        watched.spool.path(Folder.SPOOL, Entry("2041-11-21", "")).mkdir()
        watched.bring("155_a.json", day="2041-11-21")
        await watched.until(lambda: watched.listings == 2)
        await watched.named(watched.bring("156_b.json", day="2041-11-21"))


async def test_a_day_folder_that_was_removed_and_made_again_is_watched_again(watched: Watched) -> None:
    """Even when it gets the inode of the old one."""
    folder = watched.spool.folder(Folder.SPOOL) / watched.day
    async with watching(watched):
        folder.rmdir()
        folder.mkdir()
        await watched.until(lambda: watched.listings >= 2)
        await watched.named(watched.bring("155_a.json"))


async def test_the_whole_folder_may_be_replaced(watched: Watched) -> None:
    folder = watched.spool.folder(Folder.SPOOL)
    async with watching(watched):
        made = watched.spool.root / "made"
        (made / watched.day).mkdir(parents=True)
        folder.rename(watched.spool.root / "old")
        made.rename(folder)
        await watched.until(lambda: watched.listings >= 2)
        await watched.named(watched.bring("155_a.json"))


async def test_without_a_folder_it_says_so_once_and_goes_on_when_there_is_one(watched: Watched) -> None:
    class Counting(Spool):
        tries = 0

        def days(self, folder: Folder) -> list[str]:
            self.tries += 1
            return super().days(folder)

    watched.spool = counting = Counting(watched.spool.root, watched.spool.clock)
    shutil.rmtree(watched.spool.folder(Folder.SPOOL))
    stop = asyncio.Event()
    with structlog.testing.capture_logs() as lines:
        task = asyncio.create_task(
            watch(watched.spool, watched.arrivals, watched.look, stop, retry_seconds=0.02)
        )
        await watched.until(lambda: counting.tries >= 3)
        watched.spool.initialise()
        watched.spool.make_day_folders()
        await watched.until(lambda: watched.listings == 1)
        await watched.named(watched.bring("155_a.json"))
        stop.set()
        await task
    assert [line["event"] for line in lines] == ["watch.lost"]

"""Group commit: all or nothing, told once, and nothing visible after a failure."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.clock import Clock
from shared.commit import SMALLEST_SHARED_SYNC, NewFile, remove_leftovers
from shared.errors import SpoolUnavailableError
from shared.spool import Entry, Folder, Spool
from shared.writer import SpoolWriter
from tests.faults import injected, needs_strace
from tests.waiting import PATIENCE_SECONDS

DAY = "2041-11-21"
AT = datetime(2041, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "data", Clock(UTC, lambda: AT))
    made.initialise()
    return made


@pytest.fixture
def writer(spool: Spool) -> Iterator[SpoolWriter]:
    opened = SpoolWriter(spool)
    opened.start()
    yield opened
    opened.close()


class Told:
    """Collects what the writer tells, and waits for it."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, SpoolUnavailableError | None]] = []
        self._changed = threading.Condition()

    def submit(self, writer: SpoolWriter, name: str, data: bytes = b"{}", day: str = DAY) -> None:
        """Hand a file over."""

        def tell(files: list[NewFile]) -> None:
            with self._changed:
                self.heard += [(file.entry.name, file.error) for file in files]
                self._changed.notify()

        writer.hand_over([NewFile(Folder.SPOOL, Entry(day, name), data)], tell)

    def wait(self, number: int) -> dict[str, SpoolUnavailableError | None]:
        """What was told by the time that so many have been."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.heard) >= number, timeout=PATIENCE_SECONDS)
            return dict(self.heard)


def files(spool: Spool) -> list[str]:
    """Names of the files that anybody could see, and of those under `.tmp/`."""
    visible = [path.name for path in spool.root.glob("*/2041-*/*") if path.is_file()]
    return sorted(visible + [f".tmp/{path.name}" for path in spool.temporary.rglob("*") if path.is_file()])


def test_a_file_is_there_when_the_writer_says_so(spool: Spool, writer: SpoolWriter) -> None:
    entry = Entry(DAY, "a.json")
    asyncio.run(writer.write(Folder.SPOOL, entry, b"content"))
    assert spool.read(Folder.SPOOL, entry) == b"content"
    assert files(spool) == ["a.json"]
    assert spool.path(Folder.SPOOL, entry).stat().st_mode & 0o777 == 0o640 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_many_at_once_are_all_told_and_all_there(spool: Spool, writer: SpoolWriter) -> None:
    """Over two days and with contents of their own."""

    entries = [Entry((DAY, "2041-11-22")[number % 2], f"{number}.json") for number in range(300)]

    async def write_all() -> None:
        writes = (writer.write(Folder.SPOOL, entry, b"%d" % n) for n, entry in enumerate(entries))
        await asyncio.gather(*writes)

    asyncio.run(write_all())
    assert [spool.read(Folder.SPOOL, entry) for entry in entries] == [b"%d" % number for number in range(300)]


def test_close_writes_what_was_handed_over_and_takes_no_more(spool: Spool) -> None:
    writer = SpoolWriter(spool)
    writer.start()
    told = Told()
    for number in range(50):
        told.submit(writer, f"{number}.json")
    writer.close()
    assert set(told.wait(50).values()) == {None}
    assert len(files(spool)) == 50
    assert list(spool.temporary.iterdir()) == []
    with pytest.raises(SpoolUnavailableError, match="stopping"):
        told.submit(writer, "late.json")


def test_a_writer_that_was_never_started_can_be_closed(spool: Spool) -> None:
    SpoolWriter(spool).close()


def test_a_file_that_the_disk_takes_only_in_part_harms_no_other(spool: Spool, writer: SpoolWriter) -> None:
    """A limit on file sizes makes the kernel write short, as a full disk does."""
    told = Told()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        told.submit(writer, "small.json")
        told.submit(writer, "large.json", b"x" * 200_000)
        told.submit(writer, "other.json")
        heard = told.wait(3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert heard["small.json"] is heard["other.json"] is None
    assert isinstance(heard["large.json"], SpoolUnavailableError)
    assert files(spool) == ["other.json", "small.json"]


def test_a_temporary_folder_that_cannot_be_made_is_an_error_until_it_can(
    spool: Spool, writer: SpoolWriter
) -> None:
    told = Told()
    shutil.rmtree(spool.temporary)
    spool.temporary.write_text("in the way")
    told.submit(writer, "a.json")
    assert isinstance(told.wait(1)["a.json"], SpoolUnavailableError)
    spool.temporary.unlink()
    told.submit(writer, "b.json")
    assert told.wait(2)["b.json"] is None
    assert files(spool) == ["b.json"]


def test_one_day_that_cannot_be_made_harms_no_other_day(spool: Spool, writer: SpoolWriter) -> None:
    told = Told()
    (spool.folder(Folder.SPOOL) / "2041-11-22").write_text("in the way")
    told.submit(writer, "a.json", day="2041-11-22")
    told.submit(writer, "b.json")
    heard = told.wait(2)
    assert isinstance(heard["a.json"], SpoolUnavailableError)
    assert heard["b.json"] is None


def test_no_day_folder_is_made_on_a_bare_mount_point(spool: Spool, writer: SpoolWriter) -> None:
    """Otherwise callbacks would lie under the volume once it is mounted."""
    told = Told()
    shutil.rmtree(spool.root)
    spool.root.mkdir()
    told.submit(writer, "a.json")
    error = told.wait(1)["a.json"]
    assert error is not None
    assert "not mounted" in str(error)
    assert list(spool.root.iterdir()) == []


def test_leftovers_of_a_killed_writer_are_removed_and_those_of_a_living_one_stay(spool: Spool) -> None:
    """The lock tells them apart."""
    living = SpoolWriter(spool)
    living.start()
    told = Told()
    told.submit(living, "a.json")
    told.wait(1)
    (home,) = spool.temporary.iterdir()
    script = (
        "import fcntl, os, sys, time\n"
        "home = sys.argv[1]; os.mkdir(home); fd = os.open(home, os.O_RDONLY)\n"
        "fcntl.flock(fd, fcntl.LOCK_EX); open(home + '/half.json', 'w').close()\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    dead = spool.temporary / "dead"
    with subprocess.Popen([sys.executable, "-c", script, str(dead)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        remove_leftovers(spool.temporary)
        assert (dead / "half.json").exists()
        process.send_signal(signal.SIGKILL)
    another = SpoolWriter(spool)
    another.start()
    assert list(spool.temporary.iterdir()) == [home]
    another.close()
    living.close()


def test_what_is_no_writers_folder_is_left_alone(spool: Spool) -> None:
    """A link is not followed."""
    outside = spool.root / "outside"
    outside.mkdir()
    (spool.temporary / "link").symlink_to(outside)
    (spool.temporary / "file").write_text("x")
    remove_leftovers(spool.temporary)
    assert sorted(path.name for path in spool.temporary.iterdir()) == ["file", "link"]
    assert outside.exists()
    remove_leftovers(spool.root / "missing")


def test_the_writers_own_folder_is_locked(spool: Spool, writer: SpoolWriter) -> None:
    asyncio.run(writer.write(Folder.SPOOL, Entry(DAY, "a.json"), b"{}"))
    (home,) = spool.temporary.iterdir()
    descriptor = os.open(home, os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


def test_a_folder_that_another_writer_took_for_a_dead_ones_is_made_anew(
    spool: Spool, writer: SpoolWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its making and its lock."""
    lock = fcntl.flock
    taken: list[Path] = []

    def lock_too_late(descriptor: int, operation: int) -> None:
        if not taken:
            taken.extend(spool.temporary.iterdir())
            shutil.rmtree(taken[0])
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", lock_too_late)
    asyncio.run(writer.write(Folder.SPOOL, Entry(DAY, "a.json"), b"{}"))
    assert files(spool) == ["a.json"]
    assert taken
    assert list(spool.temporary.iterdir()) != taken


def test_no_more_than_two_days_of_a_folder_stay_open(spool: Spool, writer: SpoolWriter) -> None:
    told = Told()
    for day in range(1, 21):
        told.submit(writer, f"{day}.json", day=f"2041-12-{day:02}")
        told.wait(day)
    # The listing's own descriptor is gone by the time it is looked at, so that only links are followed.
    opened = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert len([path for path in opened if path.is_relative_to(spool.folder(Folder.SPOOL))]) == 2


class Group:
    """Holds the writer back until several files are handed over, so that they make up one group."""

    def __init__(self, writer: SpoolWriter) -> None:
        self._writer = writer
        self._go = threading.Event()

    def __enter__(self) -> None:
        started = threading.Event()

        def hold(_files: list[NewFile]) -> None:
            started.set()
            self._go.wait()

        self._writer.hand_over([NewFile(Folder.REFUSED, Entry(DAY, "held.json"), b"", durable=False)], hold)
        assert started.wait(PATIENCE_SECONDS)

    def __exit__(self, *_error: object) -> None:
        self._go.set()


@needs_strace
@pytest.mark.parametrize("size", [1, SMALLEST_SHARED_SYNC - 1, SMALLEST_SHARED_SYNC, 20])
@pytest.mark.parametrize("fault", ["fdatasync,syncfs:error=EIO:when=1", "fsync:error=EIO:when=1"])
def test_a_failed_sync_fails_its_whole_group_and_nothing_of_it_is_left(
    spool: Spool, writer: SpoolWriter, fault: str, size: int
) -> None:
    """Nobody can tell whose data it was. The kernel itself reports the failure; the next group is stored."""
    told = Told()
    told.submit(writer, "before.json")
    told.wait(1)
    names = [f"{number}.json" for number in range(size)]
    with injected(writer.thread_id, fault):
        with Group(writer):
            for name in names:
                told.submit(writer, name)
        heard = told.wait(1 + size)
    assert all(isinstance(heard[name], SpoolUnavailableError) for name in names)
    assert files(spool) == ["before.json", "held.json"]
    for name in names:
        told.submit(writer, f"again-{name}")
    assert {error for name, error in told.wait(1 + 2 * size).items() if "again" in name} == {None}


@needs_strace
def test_a_file_that_cannot_be_renamed_takes_its_group_back(spool: Spool, writer: SpoolWriter) -> None:
    told = Told()
    with injected(writer.thread_id, "rename,renameat,renameat2:error=ENOSPC:when=3"):
        with Group(writer):
            for number in range(5):
                told.submit(writer, f"{number}.json")
        heard = told.wait(5)
    assert all(isinstance(error, SpoolUnavailableError) for error in heard.values())
    assert [name for name in files(spool) if not name.startswith("held")] == []

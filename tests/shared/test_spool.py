"""The folders: looking, moving, and what a stranger may have put there."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.clock import Clock
from shared.errors import SpoolUnavailableError
from shared.spool import MARKER, Entry, Folder, Spool, UnreadableError, _read_to_end, write_small
from tests.meanwhile import right_after

DAY = "2041-11-21"
NOW = datetime(2041, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "data", Clock(UTC, lambda: NOW))
    made.initialise()
    return made


def put(spool: Spool, folder: Folder, name: str, content: bytes = b"{}", day: str = DAY) -> Entry:
    """Lay a file into a folder."""
    path = spool.path(folder, Entry(day, name))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return Entry(day, name)


def test_a_new_spool_has_its_folders_and_keeps_its_id(spool: Spool) -> None:
    identity = spool.id()
    assert spool.initialise() == identity
    assert all(spool.folder(folder).is_dir() for folder in Folder)
    assert spool.temporary.is_dir()
    assert spool.files.is_dir()
    assert stat.S_IMODE(spool.folder(Folder.SPOOL).stat().st_mode) & 0o007 == 0


def test_a_root_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SpoolUnavailableError, match="cannot make the spool"):
        Spool(tmp_path / "file" / "data", Clock(UTC)).initialise()


@pytest.mark.parametrize("content", ["", "[]", "{}", "{"])
def test_a_damaged_marker_is_not_a_spool(spool: Spool, content: str) -> None:
    (spool.root / MARKER).write_text(content)
    with pytest.raises(SpoolUnavailableError, match="marker"):
        spool.id()


def test_a_missing_marker_says_what_to_do(spool: Spool) -> None:
    (spool.root / MARKER).unlink()
    with pytest.raises(SpoolUnavailableError, match="--init-spool"):
        spool.id()


def test_day_folders_are_made_for_today_and_tomorrow(spool: Spool) -> None:
    spool.make_day_folders()
    spool.make_day_folders()
    assert spool.days(Folder.SPOOL) == ["2041-11-22", "2041-11-21"]


def test_entries_come_newest_day_first_and_strangers_are_passed_over(spool: Spool) -> None:
    for name in (".hidden.json", "a.json.tmp", "notes.txt", "a.reason.json"):
        put(spool, Folder.SPOOL, name)
    (spool.folder(Folder.SPOOL) / DAY / "folder.json").mkdir()
    (spool.folder(Folder.SPOOL) / "not-a-day").mkdir()
    expected = [
        put(spool, Folder.SPOOL, "by-hand.json", day=""),
        put(spool, Folder.SPOOL, "new.json", day="2041-11-22"),
        put(spool, Folder.SPOOL, "old.json"),
    ]
    assert list(spool.entries(Folder.SPOOL)) == expected


def test_a_folder_that_vanishes_has_no_entries(spool: Spool) -> None:
    spool.folder(Folder.DONE).rmdir()
    assert list(spool.entries(Folder.DONE)) == []


def test_a_folder_that_is_a_file_is_unavailable(spool: Spool) -> None:
    spool.folder(Folder.DONE).rmdir()
    spool.folder(Folder.DONE).write_text("x")
    with pytest.raises(SpoolUnavailableError, match="cannot list done"):
        list(spool.entries(Folder.DONE))


def test_only_plain_files_are_read(spool: Spool) -> None:
    """A link could lead anywhere, a pipe would hold the reader for ever, a folder is nothing to read."""
    entry = put(spool, Folder.SPOOL, "a.json", b"content")
    assert spool.read(Folder.SPOOL, entry) == b"content"
    folder = spool.folder(Folder.SPOOL) / DAY
    (folder / "link.json").symlink_to(folder / "a.json")
    os.mkfifo(folder / "pipe.json")
    (folder / "folder.json").mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name in ("link.json", "pipe.json", "folder.json"):
        with pytest.raises(UnreadableError, match="not a plain file"):
            spool.read(Folder.SPOOL, Entry(DAY, name))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    with pytest.raises(FileNotFoundError):
        spool.read(Folder.SPOOL, Entry(DAY, "gone.json"))


def test_a_file_of_absurd_size_is_not_read(spool: Spool) -> None:
    entry = put(spool, Folder.SPOOL, "a.json")
    os.truncate(spool.path(Folder.SPOOL, entry), 2**40)
    with pytest.raises(UnreadableError, match="larger than"):
        spool.read(Folder.SPOOL, entry)


def test_a_move_keeps_day_and_name(spool: Spool) -> None:
    entry = put(spool, Folder.SPOOL, "a.json")
    assert spool.move(entry, Folder.SPOOL, Folder.DONE) == entry
    assert list(spool.entries(Folder.DONE)) == [entry]
    assert spool.move(entry, Folder.SPOOL, Folder.DONE) is None


def test_a_file_by_hand_gets_todays_folder(spool: Spool) -> None:
    entry = put(spool, Folder.SPOOL, "a.json", day="")
    assert spool.move(entry, Folder.SPOOL, Folder.DONE) == Entry(DAY, "a.json")


def test_a_move_never_replaces_a_different_file(spool: Spool) -> None:
    put(spool, Folder.DONE, "a.json", b"first")
    put(spool, Folder.DONE, "a.1.json", b"second")
    entry = put(spool, Folder.SPOOL, "a.json", b"third")
    moved = spool.move(entry, Folder.SPOOL, Folder.DONE)
    assert moved == Entry(DAY, "a.2.json")
    kept = sorted(spool.read(Folder.DONE, found) for found in spool.entries(Folder.DONE))
    assert kept == [b"first", b"second", b"third"]


def test_the_same_file_twice_becomes_one(spool: Spool) -> None:
    """As after a power cut between a rename and the sync of its folder."""
    put(spool, Folder.DONE, "a.json", b"same")
    entry = put(spool, Folder.SPOOL, "a.json", b"same")
    assert spool.move(entry, Folder.SPOOL, Folder.DONE) == entry
    assert list(spool.entries(Folder.SPOOL)) == []


def test_a_target_folder_that_was_removed_does_not_lose_the_entry(spool: Spool) -> None:
    """It is our own means that are gone, not the entry."""
    entry = put(spool, Folder.SPOOL, "a.json")
    spool.folder(Folder.DONE).rmdir()
    with pytest.raises(SpoolUnavailableError, match="done"):
        spool.move(entry, Folder.SPOOL, Folder.DONE)
    assert list(spool.entries(Folder.SPOOL)) == [entry]


def test_quarantine_keeps_the_reason_beside_the_file_until_it_leaves(spool: Spool) -> None:
    entry = put(spool, Folder.SPOOL, "a.json")
    moved = spool.quarantine(entry, Folder.SPOOL, {"reason": "no id"})
    assert moved is not None
    reason = spool.reason(moved)
    assert reason is not None
    assert (reason["reason"], reason["from"]) == ("no id", "spool")
    spool.move(moved, Folder.QUARANTINE, Folder.SPOOL)
    assert spool.reason(moved) is None
    assert list((spool.folder(Folder.QUARANTINE) / DAY).iterdir()) == []


def test_a_removed_entry_takes_its_reason_along(spool: Spool) -> None:
    moved = spool.quarantine(put(spool, Folder.SPOOL, "a.json"), Folder.SPOOL, {"reason": "x"})
    assert moved is not None
    spool.remove(moved, Folder.QUARANTINE)
    spool.remove(moved, Folder.QUARANTINE)
    assert list((spool.folder(Folder.QUARANTINE) / DAY).iterdir()) == []


def test_find_looks_into_every_folder(spool: Spool) -> None:
    one = put(spool, Folder.DONE, "155_a.json")
    put(spool, Folder.SPOOL, "156_b.json")
    other = put(spool, Folder.REFUSED, "155_c.json")
    assert spool.find("155") == [(Folder.DONE, one), (Folder.REFUSED, other)]


def test_the_age_of_an_entry(spool: Spool) -> None:
    entry = put(spool, Folder.SPOOL, "a.json")
    changed = (NOW - timedelta(seconds=90)).timestamp()
    os.utime(spool.path(Folder.SPOOL, entry), (changed, changed))
    assert spool.age_seconds(Folder.SPOOL, entry) == pytest.approx(90)
    assert spool.age_seconds(Folder.SPOOL, Entry(DAY, "gone.json")) == 0


def test_a_small_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.reason.json"
    write_small(path, "one")
    write_small(path, "two")
    assert path.read_text() == "two"
    assert [found.name for found in tmp_path.iterdir()] == ["a.reason.json"]


def test_the_first_entry_of_many_is_given_before_the_rest_are_read(spool: Spool) -> None:
    """However many wait, listing them needs no memory for each."""
    for number in range(1_000):
        put(spool, Folder.SPOOL, f"{number:060d}.json", b"")
    tracemalloc.start()
    try:
        listing = spool.entries(Folder.SPOOL)
        next(listing)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1_000 * 60 / 2
    assert sum(1 for _ in listing) == 999


def test_a_listing_goes_on_while_its_entries_are_moved_away(spool: Spool) -> None:
    names = {put(spool, Folder.SPOOL, f"{number}.json").name for number in range(500)}
    found = set()
    for entry in spool.entries(Folder.SPOOL):
        found.add(entry.name)
        spool.move(entry, Folder.SPOOL, Folder.DONE)
    assert found == names
    assert list(spool.entries(Folder.SPOOL)) == []


def test_a_link_that_leads_nowhere_is_not_replaced_either(spool: Spool) -> None:
    entry = put(spool, Folder.SPOOL, "a.json")
    link = spool.path(Folder.DONE, entry)
    link.parent.mkdir()
    link.symlink_to("nowhere")
    assert spool.move(entry, Folder.SPOOL, Folder.DONE) == Entry(DAY, "a.1.json")
    assert link.is_symlink()


@pytest.mark.parametrize("believed_bytes", [0, 3, 10, 11, 5_000_000])
def test_a_file_is_read_to_its_end_whatever_its_size_was_a_moment_ago(
    tmp_path: Path, believed_bytes: int
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"0123456789")
    with path.open("rb") as file:
        assert _read_to_end(file.fileno(), believed_bytes) == b"0123456789"


def test_of_two_that_make_a_spool_at_once_both_go_by_one_id(tmp_path: Path) -> None:
    """What is recorded under another id would count as another machine's, and never be settled."""
    one, other = (Spool(tmp_path / "data", Clock(UTC, lambda: NOW)) for _ in range(2))
    ids: list[str] = []
    marker = one.root / MARKER
    with right_after("stat", lambda path: path == marker, lambda: ids.append(other.initialise())):
        ids.append(one.initialise())
    assert ids == [one.id(), one.id()]
    assert sorted(path.name for path in one.root.glob(".*")) == [MARKER, ".tmp"]


def test_a_file_system_without_hard_links_holds_a_spool_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "link", refuse)
    made = Spool(tmp_path / "data", Clock(UTC, lambda: NOW))
    assert made.initialise() == made.id()


def test_what_cannot_be_looked_for_is_unavailable_and_not_gone(spool: Spool) -> None:
    """As in a day folder that somebody made as another user."""
    entry = put(spool, Folder.DEFERRED, "a.json")
    assert spool.has(Folder.DEFERRED, entry)
    assert not spool.has(Folder.DONE, entry)
    day = spool.folder(Folder.DEFERRED) / DAY
    day.chmod(0o700)
    with as_another_user(spool.root):
        for look in (spool.has, spool.age_seconds):
            with pytest.raises(SpoolUnavailableError, match="Permission denied"):
                look(Folder.DEFERRED, entry)


@contextmanager
def as_another_user(root: Path) -> Iterator[None]:
    """This thread has the rights of nobody on files, who may go as far as the root's folders."""
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    libc, nobody = ctypes.CDLL(None), 65_534
    open_to_all = [folder for folder in (*root.parents, root, *root.iterdir()) if folder.is_dir()]
    modes = {folder: folder.stat().st_mode for folder in open_to_all}
    for folder, mode in modes.items():
        folder.chmod(stat.S_IMODE(mode) | 0o005)
    libc.setfsuid(nobody)
    try:
        yield
    finally:
        libc.setfsuid(0)
        for folder, mode in modes.items():
            folder.chmod(stat.S_IMODE(mode))

"""The group commit: an error that nobody foresaw fails the files it hit, and nobody else's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shared.clock import Clock
from shared.commit import GroupCommit, NewFile
from shared.spool import Entry, Folder, Spool

YESTERDAY, TODAY = "2026-03-01", "2026-03-02"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "root", Clock())
    made.initialise()
    return made


def new_file(day: str, name: str) -> NewFile:
    return NewFile(Folder.SPOOL, Entry(day, name), b"{}")


def names(spool: Spool, place: Path | None = None) -> list[str]:
    return sorted(path.name for path in (place or spool.folder(Folder.SPOOL)).rglob("*") if path.is_file())


def test_an_unforeseen_error_fails_its_own_day_and_no_other(spool: Spool) -> None:
    """A name with a NUL is an error that no disk gives."""
    commit = GroupCommit(spool)
    files = [new_file(YESTERDAY, "a.json"), new_file(TODAY, "b.json"), new_file(TODAY, "c\0.json")]
    commit.commit(files)
    assert [file.error is None for file in files] == [True, False, False]
    assert "unexpected ValueError: embedded null byte" in str(files[1].error)
    assert names(spool) == ["a.json"]
    assert names(spool, spool.temporary) == []
    commit.commit([again := new_file(TODAY, "b.json")])
    assert again.error is None
    assert names(spool) == ["a.json", "b.json"]
    commit.close()


def test_nothing_is_seen_of_files_whose_last_sync_met_an_unforeseen_error(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = GroupCommit(spool)
    commit.commit([new_file(TODAY, "a.json")])

    def fsync(_descriptor: int) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        commit.commit(files := [new_file(TODAY, f"{number}.json") for number in range(5)])
    assert all("unexpected MemoryError" in str(file.error) for file in files)
    assert names(spool) == ["a.json"]
    assert names(spool, spool.temporary) == []
    commit.close()


def test_a_folder_that_cannot_be_closed_keeps_nobody_from_going_on(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = GroupCommit(spool)
    commit.commit([new_file(TODAY, "a.json")])
    held = {int(path.name) for path in Path("/proc/self/fd").iterdir()}
    real_close = os.close

    def close(descriptor: int) -> None:
        real_close(descriptor)
        if descriptor in held:
            held.discard(descriptor)
            raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", close)
        commit.close()
    commit.commit([again := new_file(TODAY, "b.json")])
    assert again.error is None
    commit.close()

"""What lands is counted, bounded and, unless it is kept, gone."""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from processor.landing import Landing, remove_leftovers
from shared.errors import PermanentError, SpoolUnavailableError


@pytest.fixture
def landing(tmp_path: Path) -> Iterator[Landing]:
    landing = Landing(tmp_path, max_file_bytes=100)
    yield landing
    landing.remove()


def test_size_digest_and_head_are_those_of_the_content(landing: Landing) -> None:
    """Whatever the pieces it came in."""
    file = landing.open_file()
    for piece in (b"%PDF", b"", b"-1.7", b" and more than sixteen bytes"):
        file.write(piece)
    file.close()

    content = file.path.read_bytes()
    assert content == b"%PDF-1.7 and more than sixteen bytes"
    assert (file.size_bytes, file.head) == (len(content), content[:16])
    assert file.sha256 == hashlib.sha256(content).hexdigest()


def test_a_file_beyond_the_limit_is_refused_before_it_is_written(landing: Landing) -> None:
    """The limit itself is allowed."""
    file = landing.open_file()
    file.write(bytes(100))
    with pytest.raises(PermanentError, match="max_file"):
        file.write(b"x")
    assert file.path.stat().st_size == 100


def test_all_files_together_have_a_limit_too(landing: Landing) -> None:
    """A hundred files of the largest size each would fill the disk."""
    for _ in range(8):
        landing.open_file().write(bytes(100))
    with pytest.raises(PermanentError, match="8 times"):
        landing.open_file().write(b"x")


def test_a_disk_that_takes_no_more_is_our_own_fault(tmp_path: Path) -> None:
    """Nobody is charged for it, and what was begun is removed."""
    landing = Landing(tmp_path, max_file_bytes=1 << 20)
    file = landing.open_file()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(SpoolUnavailableError, match="write a fetched file"):
            file.write(bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    landing.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_our_own_fault(tmp_path: Path) -> None:
    """As when a file stands where the folder should be."""
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(SpoolUnavailableError):
        Landing(path, max_file_bytes=1)


def test_leftovers_of_a_dead_process_are_removed_and_nothing_else(tmp_path: Path) -> None:
    """In the folder and in its day folders."""
    day = tmp_path / "2026-11-21"
    day.mkdir()
    for folder in (tmp_path, day):
        file = Landing(folder, max_file_bytes=9).open_file()
        file.write(b"left")
        file.close()
        (folder / "155_signed_1_0123456789ab.pdf").touch()

    assert remove_leftovers(tmp_path) == 2

    assert sorted(path.name for path in tmp_path.iterdir()) == ["155_signed_1_0123456789ab.pdf", "2026-11-21"]
    assert [path.name for path in day.iterdir()] == ["155_signed_1_0123456789ab.pdf"]
    assert remove_leftovers(tmp_path) == 0

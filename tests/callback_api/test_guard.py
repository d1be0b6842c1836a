"""What the door does while the spool is away, and that it recovers without a restart."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from shared.spool import MARKER, Folder
from tests.callback_api.door import InProcess, in_process, make_settings, paths, spool_of


def mount(*options: str) -> None:
    """Mount something, or skip the test where that is not permitted."""
    done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, 1 MiB, for the spool."""
    path = tmp_path / "volume"
    path.mkdir()
    mount("-t", "tmpfs", "-o", "size=1m,nr_inodes=4000", "signspool-test", str(path))
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def refuses(door: InProcess, said: str) -> None:
    """The door says 503 and why, to ops; to a provider it says when to come again."""
    assert said in door.wait_for(503).json()["detail"]
    answer = door.ask()
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "30"
    assert answer.json()["type"] == "/problems/not-stored"
    assert said not in answer.text


def accepts(door: InProcess) -> None:
    """It is ready again."""
    door.wait_for(200)
    assert door.ask().status_code == 200


def test_a_missing_marker_closes_the_door_until_it_is_back(tmp_path: Path) -> None:
    """Each change is logged once."""
    settings = make_settings(tmp_path)
    root = settings.spool.root
    with structlog.testing.capture_logs() as lines, in_process(settings) as door:
        accepts(door)
        (root / MARKER).rename(root / "away")
        refuses(door, "marker")
        assert door.ask("GET", "/healthz").status_code == 200
        assert len(paths(root)) == 1
        (root / "away").rename(root / MARKER)
        accepts(door)
    events = [line["event"] for line in lines if line["event"].startswith("spool.")]
    assert events == ["spool.available", "spool.unavailable", "spool.available"]


def test_the_door_starts_without_its_volume_and_makes_no_spool(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    root = settings.spool.root
    root.rename(tmp_path / "away")
    root.mkdir()
    with in_process(settings) as door:
        refuses(door, "marker")
        assert list(root.iterdir()) == []
        root.rmdir()
        (tmp_path / "away").rename(root)
        accepts(door)
    assert len(paths(root)) == 1


def test_a_replaced_root_gets_the_next_callback(tmp_path: Path) -> None:
    """Not the old one, which is still open."""
    settings = make_settings(tmp_path)
    root = settings.spool.root
    with in_process(settings) as door:
        accepts(door)
        root.rename(tmp_path / "old")
        spool_of(settings).initialise()
        accepts(door)
    assert (len(paths(root)), len(paths(tmp_path / "old"))) == (1, 1)


def test_a_day_folder_that_is_removed_is_made_again(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    with in_process(settings) as door:
        accepts(door)
        shutil.rmtree(paths(settings.spool.root)[0].parent)
        accepts(door)
    assert len(paths(settings.spool.root)) == 1


@pytest.mark.parametrize("name", [".tmp", "spool"])
def test_a_file_in_place_of_a_folder(tmp_path: Path, name: str) -> None:
    settings = make_settings(tmp_path)
    path = settings.spool.root / name
    with in_process(settings) as door:
        accepts(door)
        shutil.rmtree(path)
        path.write_text("in the way")
        refuses(door, f"{name}/ is missing")
        path.unlink()
        path.mkdir()
        accepts(door)


def test_too_little_free_space(tmp_path: Path, volume: Path) -> None:
    settings = make_settings(tmp_path, root=volume, spool="").model_copy()
    settings = settings.model_copy(
        update={"spool": settings.spool.model_copy(update={"min_free": 512 * 1024})}
    )
    ballast = volume / "ballast"
    with in_process(settings) as door:
        accepts(door)
        ballast.write_bytes(bytes(700 * 1024))
        refuses(door, "less than 524288 bytes")
        ballast.unlink()
        accepts(door)


def test_too_few_free_inodes(tmp_path: Path, volume: Path) -> None:
    mount("-o", "remount,nr_inodes=1100", str(volume))
    settings = make_settings(tmp_path, root=volume)
    with in_process(settings) as door:
        accepts(door)
        for number in range(100):
            (volume / "files" / str(number)).touch()
        refuses(door, "fewer than 1000 files")
        shutil.rmtree(volume / "files")
        accepts(door)


def test_a_full_disk_that_nobody_foresaw_leaves_nothing_half_written(tmp_path: Path, volume: Path) -> None:
    """The body fits under min_free and not on the disk."""
    settings = make_settings(tmp_path, root=volume)
    body = b'{"envelopeId": 1, "action": "A", "filling": "' + b"x" * 900_000 + b'"}'
    with in_process(settings) as door:
        accepts(door)
        (volume / "ballast").write_bytes(bytes(200 * 1024))
        answer = door.ask(content=body)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert len(paths(volume)) == 1
        assert [path for path in (volume / ".tmp").rglob("*") if path.is_file()] == []
        accepts(door)
        (volume / "ballast").unlink()
        assert door.ask(content=body).status_code == 200


def test_a_read_only_volume(tmp_path: Path, volume: Path) -> None:
    settings = make_settings(tmp_path, root=volume)
    with in_process(settings) as door:
        accepts(door)
        mount("-o", "remount,ro", str(volume))
        refuses(door, "cannot be written")
        mount("-o", "remount,rw", str(volume))
        accepts(door)
    assert len(paths(volume)) == 2


def test_a_volume_that_is_unmounted_and_mounted_again(tmp_path: Path) -> None:
    """The bare mount point stays empty meanwhile, and the old mount is not written to."""
    volume = tmp_path / "volume"
    volume.mkdir()
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("--bind", str(disk), str(volume))
    settings = make_settings(tmp_path, root=volume)
    try:
        with in_process(settings) as door:
            accepts(door)
            subprocess.run(["umount", "-l", str(volume)], check=True)
            refuses(door, "marker")
            assert list(volume.iterdir()) == []
            mount("--bind", str(disk), str(volume))
            accepts(door)
            assert len(paths(volume)) == 2
    finally:
        subprocess.run(["umount", "-l", str(volume)], check=False)


def test_a_door_without_a_spool_has_no_room_for_refused_copies_either(tmp_path: Path) -> None:
    """Nothing is read, nothing is kept."""
    settings = make_settings(tmp_path)
    (settings.spool.root / MARKER).unlink()
    with in_process(settings) as door:
        assert door.ask(headers={}).status_code == 503
    assert paths(settings.spool.root, Folder.REFUSED) == []


def test_a_look_that_no_thread_can_be_had_for_is_not_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that may have no more threads for a while."""

    async def none_left(*_arguments: object) -> None:
        raise RuntimeError("can't start new thread")

    with in_process(make_settings(tmp_path)) as door:
        accepts(door)
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "to_thread", none_left)
            refuses(door, "cannot be looked at: can't start new thread")
        accepts(door)

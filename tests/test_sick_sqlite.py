"""SQLite falls ill while callbacks come in: the door notices nothing, the daemon waits and goes on.

Each test makes one outage and is followed by the next on the same processes. In each the door answers 200 to
everybody, the daemon says once that the database is away and once that it is back, and goes on by itself. The
last test finds nothing lost, nothing doubled, nobody charged. `SIGNSPOOL_TEST_OUTAGE_SECONDS` sets how long
the longer outages last.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import URL

from simulator.server import SimulatorServer
from tests.outages import AWAY, BACK, OUTAGE_SECONDS, Scene
from tests.sickness import SmallDisk


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk]:
    path = tmp_path_factory.mktemp("sick-disk")
    try:
        made = SmallDisk(path, 6 << 20)
    except PermissionError as error:
        pytest.skip(str(error))
    with closing(made):
        yield made


@pytest.fixture(scope="module")
def sqlite(disk: SmallDisk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """The processor is started while its database can only be read, and so begins with its first outage."""
    with SimulatorServer() as peers:
        url = URL.create("sqlite", database=str(disk.path / "signspool.db"))
        scene = Scene(tmp_path_factory.mktemp("sick-sqlite"), peers, url)
        disk.make_read_only()
        scene.installation.start("api", "processor")
        scene.caller.start()
        yield scene
        scene.close()


@contextmanager
def locked(disk: SmallDisk) -> Iterator[None]:
    """Inside the block another process, this one, has the database to itself."""
    with closing(sqlite3.connect(disk.path / "signspool.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("COMMIT")


def test_a_file_that_can_only_be_read_is_said_once_and_waited_for(sqlite: Scene, disk: SmallDisk) -> None:
    sqlite.wait_until_away()
    assert "processor.started" not in sqlite.log()
    time.sleep(1)
    disk.make_writable()
    sqlite.wait(lambda: BACK in sqlite.log(), "the daemon to start")
    sqlite.wait_until_recorded(set(sqlite.caller.receipts))
    assert sqlite.log().count(AWAY) == 1


def test_a_file_that_another_process_has_locked(sqlite: Scene, disk: SmallDisk) -> None:
    with sqlite.outage():
        with locked(disk):
            time.sleep(OUTAGE_SECONDS)
        assert "locked" in sqlite.log()


def test_a_full_disk_of_the_file(sqlite: Scene, disk: SmallDisk) -> None:
    with sqlite.outage():
        disk.fill()
        sqlite.wait_until_away()
        assert "full" in sqlite.log()
        time.sleep(1)
        disk.free()


def test_a_file_that_is_replaced_is_not_taken_for_the_database(
    sqlite: Scene, disk: SmallDisk, migrated_file: Path
) -> None:
    """Not even by a file with all tables and no rows; nor is a file that is missing made anew."""
    file, aside = disk.path / "signspool.db", disk.path / "aside.db"
    since = len(sqlite.log())
    with sqlite.outage():
        file.rename(aside)
        sqlite.wait_until_away()
        assert f"the database file {file} was taken away" in sqlite.log()
        assert not file.exists()
        shutil.copyfile(migrated_file, file)
        # Longer than the wait between two tries.
        time.sleep(2.5)
        assert BACK not in sqlite.log(since)
        assert file.read_bytes() == migrated_file.read_bytes()
        aside.rename(file)


def test_a_file_that_is_locked_keeps_nobody_from_ending(sqlite: Scene, disk: SmallDisk) -> None:
    sqlite.wait_until_recorded(set(sqlite.caller.receipts))
    sqlite.caller.end()
    sqlite.installation.wait_until_settled()
    with locked(disk):
        receipt = sqlite.installation.post("ssign", {"envelopeId": 7, "action": "PENDING"}).json()["id"]
        time.sleep(0.5)
        sqlite.stop_processor()
    sqlite.caller.receipts[receipt] = "7"


def test_after_all_that_nothing_is_lost_doubled_or_charged_on_sqlite(sqlite: Scene) -> None:
    sqlite.installation.start("processor")
    sqlite.assert_all_is_well()

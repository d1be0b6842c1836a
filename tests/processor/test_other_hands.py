"""Somebody moves or removes a thing between a look at it and its use: the daemon goes on, nothing is lost,
nobody is charged. Each deed is done exactly there, on real files and databases."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import structlog
from sqlalchemy import URL

from processor.alone import alone
from processor.daemon import LOCK, Daemon
from processor.daylists import EXPIRED_SUFFIX
from processor.housekeeping import Kept
from processor.landing import Landing
from processor.retention import Retention
from shared.errors import SpoolUnavailableError, TransientError
from shared.spool import Entry, Folder
from tests.conftest import make_database
from tests.meanwhile import right_after, right_before
from tests.processor.conftest import Workshop
from tests.processor.test_daemon import arrive, is_known, make_daemon, running, until
from tests.processor.test_housekeeping import DAY_SECONDS, NO_STOP, finish, make_housekeeping
from tests.processor.test_outbox import Yard, complete, states

DEADLINE_SECONDS = 20.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def database_url(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[URL]:
    """Files are what this is about, so one kind of database does."""
    with make_database("sqlite", tmp_path, request) as url:
        yield url


@pytest.fixture
def yard(workshop: Workshop) -> Yard:
    return Yard(workshop)


# The daemon


@pytest.mark.anyio
async def test_a_spool_folder_that_somebody_moved_away_is_made_anew_by_the_sweep(workshop: Workshop) -> None:
    """The door says 503 until then."""
    spool, away = workshop.spool.folder(Folder.SPOOL), workshop.spool.root.parent / "away"
    async with running(make_daemon(workshop, 0.05)):
        spool.rename(away)
        await until((spool / workshop.clock.today().isoformat()).is_dir)
        arrive(workshop, 1)
        await until(lambda: is_known(workshop, "1"))


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["", "done"])
async def test_a_folder_that_is_away_for_a_while_is_waited_for(workshop: Workshop, name: str) -> None:
    """The whole root, as of a volume that was unmounted, or the folder that housekeeping looks into."""
    folder = workshop.spool.root / name
    folder.rename(workshop.spool.root.parent / "away")
    if name:
        lines = await _until_unavailable(make_daemon(workshop, 0.05))
    else:
        folder.mkdir()
        lines = await _until_unavailable(make_daemon(workshop, 0.05))
        shutil.rmtree(folder)
    assert [line["event"] for line in lines].count("processor.unavailable") == 1


async def _until_unavailable(daemon: Daemon) -> list[dict[str, object]]:
    """Run a daemon until it says that its means are gone, and then through more sweeps; it must not end."""
    with structlog.testing.capture_logs() as lines:
        running = asyncio.create_task(daemon.run())
        await until(lambda: any(line["event"] == "processor.unavailable" for line in lines) or running.done())
        await asyncio.wait([running], timeout=0.3)
        assert not running.done()
        signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await running
    return lines  # type: ignore[return-value]


@pytest.mark.anyio
async def test_one_that_stands_by_outlives_a_volume_that_is_away(workshop: Workshop) -> None:
    root, away = workshop.spool.root, workshop.spool.root.parent / "away"
    with contextlib.ExitStack() as other, structlog.testing.capture_logs() as lines:
        assert other.enter_context(alone(root / LOCK))
        standing_by = asyncio.create_task(make_daemon(workshop).run())

        def said(event: str) -> bool:
            return standing_by.done() or any(line["event"] == event for line in lines)

        await until(lambda: said("processor.standby"))
        root.rename(away)
        await until(lambda: said("processor.unavailable"))
        away.rename(root)
        await until(lambda: said("processor.available"))
        assert not said("processor.started")
        other.close()
        await until(lambda: said("processor.started"))
        signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await standing_by


def test_an_arrival_whose_volume_is_unmounted_before_it_is_taken_waits(workshop: Workshop) -> None:
    """Nothing can be noted as in hand then."""
    entry = workshop.put({"envelopeId": 1, "action": "EXPIRED"})
    pipeline = workshop.pipeline()
    pipeline.arrivals.add([entry])
    away = workshop.spool.root.rename(workshop.spool.root.parent / "away")
    with pytest.raises(SpoolUnavailableError, match="in hand"):
        pipeline.work_through(threading.Event(), listing=False)
    away.rename(workshop.spool.root)
    assert workshop.work().recorded == 1


# Moving


def test_a_day_folder_that_retention_takes_away_as_it_is_made_keeps_no_entry_where_it_was(
    workshop: Workshop,
) -> None:
    """Else its row would be settled, and its file stay in `deferred/`, where nobody looks any more."""
    entry = workshop.put({"envelopeId": 155, "action": "COMPLETED"}, day="2041-11-01")
    workshop.work()
    assert workshop.folder_of(entry) is Folder.DEFERRED
    with workshop.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE outbox SET state = 'done'")
    day = workshop.spool.folder(Folder.DONE) / entry.day
    with right_after("mkdir", lambda path: path == day, day.rmdir):
        assert workshop.settler().scan() == 1
    assert workshop.folder_of(entry) is Folder.DONE


def test_a_day_folder_that_never_stays_is_trouble_of_the_disk(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = workshop.put({"envelopeId": 1, "action": "EXPIRED"})
    done = workshop.spool.folder(Folder.DONE)
    monkeypatch.setattr("os.mkdir", lambda path, *_: (done / "elsewhere").exists())
    with pytest.raises(SpoolUnavailableError, match="goes as often as it is made"):
        workshop.spool.move(entry, Folder.SPOOL, Folder.DONE)
    assert workshop.folder_of(entry) is Folder.SPOOL


def test_a_quarantined_entry_that_somebody_takes_before_its_reason_is_written_stops_nobody(
    workshop: Workshop,
) -> None:
    """With the whole day."""
    entry = workshop.lay(Entry("2041-11-21", "1_x.json"), b"no JSON")
    workshop.put({"envelopeId": 2, "action": "EXPIRED"})
    day = workshop.spool.folder(Folder.QUARANTINE) / entry.day
    source = workshop.spool.path(Folder.SPOOL, entry)
    workshop.time.pass_seconds(60)
    with right_after("rename", lambda path: path == source, lambda: _move(day, "taken")):
        # The first try finds that the day folder has to be made.
        day.mkdir()
        tally = workshop.work()
    assert (tally.recorded, tally.quarantined, tally.skipped) == (1, 0, 1)
    assert is_known(workshop, "2")


def test_an_entry_that_somebody_takes_before_it_can_be_quarantined_is_not_said_to_be_there(
    workshop: Workshop,
) -> None:
    entry = workshop.lay(Entry("2041-11-21", "1_x.json"), b"no JSON")
    path = workshop.spool.path(Folder.SPOOL, entry)
    workshop.time.pass_seconds(60)
    with (
        structlog.testing.capture_logs() as lines,
        right_before("rename", lambda source: source == path, lambda: _move(path, "taken")),
    ):
        assert workshop.work().quarantined == 0
    assert [line["event"] for line in lines] == []


def _move(path: Path, name: str) -> None:
    shutil.move(path, path.parents[2] / name)


# Housekeeping


def test_a_day_that_somebody_moves_away_before_its_turn_is_no_trouble(workshop: Workshop) -> None:
    """Days before it may take long. No note says that it was deleted, since it was not."""
    oldest, old = finish(workshop, 9), finish(workshop, 8)
    done, elsewhere = workshop.spool.folder(Folder.DONE), workshop.spool.root.parent / "elsewhere"
    retention = Retention(workshop.spool, {Folder.DONE: 5 * DAY_SECONDS})
    with right_before("rmdir", lambda path: path == done / oldest, lambda: (done / old).rename(elsewhere)):
        assert retention.drop(NO_STOP) == 1
    assert workshop.spool.days(Folder.DONE) == []
    assert len(list(elsewhere.iterdir())) == 1
    assert [path.name for path in done.glob(f"*{EXPIRED_SUFFIX}")] == [f"{oldest}{EXPIRED_SUFFIX}"]


def test_a_day_that_somebody_moves_away_while_it_is_deleted_is_no_trouble(workshop: Workshop) -> None:
    day = finish(workshop, 9)
    folder, elsewhere = workshop.spool.folder(Folder.DONE) / day, workshop.spool.root.parent / "elsewhere"
    (folder / "notes").mkdir()
    retention = Retention(workshop.spool, {Folder.DONE: 5 * DAY_SECONDS})
    with right_after("scandir", lambda path: path == folder, lambda: folder.rename(elsewhere)):
        retention.drop(NO_STOP)
    assert len(list(elsewhere.iterdir())) == 2


def test_an_older_list_that_goes_before_it_is_read_is_made_up_for_by_the_next_call(
    workshop: Workshop,
) -> None:
    """The spool is unavailable for that call, as for anything else that cannot be read."""
    day = finish(workshop, 3)
    housekeeping = make_housekeeping(workshop)
    assert housekeeping.work(NO_STOP).listed == [day]
    workshop.time.pass_seconds(DAY_SECONDS)
    new = finish(workshop, 1)
    done, looks = workshop.spool.folder(Folder.DONE), count(1)
    with (
        # The second look is for the days, when the lists are known.
        right_before(
            "scandir", lambda path: path == done and next(looks) == 2, (done / f"{day}.sha256").unlink
        ),
        pytest.raises(SpoolUnavailableError, match="read"),
    ):
        housekeeping.work(NO_STOP)
    assert housekeeping.work(NO_STOP) == Kept([day, new], is_whole=True)


def test_housekeeping_without_the_folder_it_keeps_is_unavailable(workshop: Workshop) -> None:
    shutil.rmtree(workshop.spool.folder(Folder.DONE))
    with pytest.raises(SpoolUnavailableError, match="done"):
        make_housekeeping(workshop).work(NO_STOP)


# Fetching and delivering


def test_nobody_is_charged_for_a_folder_of_fetched_files_that_is_gone(yard: Yard) -> None:
    workshop = yard.workshop
    complete(workshop)
    away = workshop.spool.files.rename(workshop.spool.root / "away")
    for _ in range(5):
        workshop.time.pass_seconds(4000)
        yard.work()
    [fetch] = workshop.show("155")["owed"]
    assert (fetch["state"], fetch["attempts"]) == ("due", 0)
    away.rename(workshop.spool.files)
    workshop.time.pass_seconds(4000)
    yard.work()
    assert len(workshop.destination.delivered) == 1


def test_nobody_is_charged_for_a_delivery_whose_files_were_moved_away(yard: Yard) -> None:
    """Nor is the file fetched again while the folder of all of them is gone."""
    workshop = yard.workshop
    complete(workshop)
    yard.lanes.reverse()
    workshop.destination.fail_before = [TransientError("busy")]
    yard.work()
    away = workshop.spool.files.rename(workshop.spool.root / "away")
    for _ in range(5):
        workshop.time.pass_seconds(4000)
        yard.work()
    [delivery] = [item for item in workshop.show("155")["deliveries"] if item["task"] == "deliver"]
    assert (delivery["state"], delivery["attempts"]) == ("due", 1)
    away.rename(workshop.spool.files)
    workshop.time.pass_seconds(4000)
    yard.work()
    assert yard.peer.asked == ["901"]
    assert len(workshop.destination.delivered) == 1


def test_nobody_is_charged_for_a_landing_that_somebody_cleared_away(yard: Yard) -> None:
    """Between its making and the first byte."""
    workshop = yard.workshop
    complete(workshop)
    with right_after(
        "mkdir", lambda path: path.name.startswith(".fetch-"), lambda: _clear(workshop.spool.files)
    ):
        yard.work()
    assert states(workshop)["fetch"] == "due"
    assert workshop.show("155")["owed"][0]["attempts"] == 0
    workshop.time.pass_seconds(60)
    yard.work()
    assert len(workshop.destination.delivered) == 1


def _clear(files: Path) -> None:
    for landing in files.glob("*/*/.fetch-*"):
        shutil.rmtree(landing)


def test_a_landing_that_is_gone_already_is_removed(tmp_path: Path) -> None:
    landing = Landing(tmp_path, max_file_bytes=100)
    landing.open_file()
    for path in tmp_path.iterdir():
        shutil.rmtree(path)
    landing.remove()


def test_a_delivered_file_that_cannot_be_deleted_changes_nothing_about_its_delivery(yard: Yard) -> None:
    """It is said where it lies, and the entry is settled."""
    workshop = yard.workshop
    entry = complete(workshop)
    away = workshop.spool.root / "away"

    def in_the_way() -> None:
        workshop.spool.files.rename(away)
        workshop.spool.files.write_text("in the way")

    with (
        structlog.testing.capture_logs() as lines,
        right_before("unlink", lambda path: path.suffix == ".pdf", in_the_way),
    ):
        yard.work()
    assert set(states(workshop).values()) == {"done"}
    assert workshop.folder_of(entry) is Folder.DONE
    events = [line["event"] for line in lines]
    assert "delivery.lease_lost" not in events
    [line] = [line for line in lines if line["event"] == "file.not_deleted"]
    [left] = away.rglob("*.pdf")
    assert line["paths"] == [str(left.relative_to(away))]

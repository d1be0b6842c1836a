"""The daemon's loop: arrivals are recorded at once, whatever the sweep does; trouble is told once."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, MutableMapping
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
import structlog

from processor import documents
from processor.access import Access
from processor.agreed import AgreedTime
from processor.alone import alone
from processor.arrivals import Arrivals
from processor.breaker import Breaker
from processor.daemon import LOCK, Daemon
from processor.daylists import DayLists
from processor.history import History
from processor.housekeeping import Housekeeping
from processor.means import Means
from processor.metrics import ProcessorMetrics
from processor.reading import ReadEntry, Reader
from processor.retention import Retention
from processor.settle import Settler
from processor.taking import Taker, TakerSettings
from shared.errors import DatabaseUnavailableError
from shared.notify import Notifier
from shared.spool import Entry, Folder, Spool
from shared.writer import SpoolWriter
from tests.processor.conftest import Workshop

pytestmark = pytest.mark.anyio
DEADLINE_SECONDS = 90.0
AN_HOUR_SECONDS = 3600.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def make_housekeeping(workshop: Workshop, retention: Retention) -> Housekeeping:
    history = History(workshop.database, workshop.clock, keep_seconds=AN_HOUR_SECONDS)
    return Housekeeping(workshop.spool, DayLists(workshop.spool), retention, history)


def make_daemon(workshop: Workshop, sweep_seconds: float = AN_HOUR_SECONDS, **changes: object) -> Daemon:
    # Waits are real here.
    workshop.spool.clock = replace(workshop.clock, monotonic=time.monotonic)
    parts = {
        "spool": workshop.spool,
        "spool_id": workshop.spool_id,
        "database": workshop.database,
        "pipeline": workshop.pipeline(),
        "settler": workshop.settler(),
        "housekeeping": make_housekeeping(workshop, Retention(workshop.spool, {})),
        "lanes": [],
        "pollers": [],
        "writer": SpoolWriter(workshop.spool),
        "means": Means(),
        "metrics": ProcessorMetrics((), ()),
        "time": AgreedTime(workshop.clock, workshop.database),
        "sweep_seconds": sweep_seconds,
        "grace_seconds": 1.0,
    }
    return Daemon(**{**parts, **changes})  # type: ignore[arg-type]  # each is of its field's type


@contextlib.asynccontextmanager
async def running(daemon: Daemon) -> AsyncIterator[list[MutableMapping[str, Any]]]:
    """The daemon at work, ended as by systemd; yields the lines of its log."""
    with structlog.testing.capture_logs() as lines:
        task = asyncio.create_task(daemon.run())
        try:
            await until(lambda: any(line["event"] == "processor.started" for line in lines))
            yield lines
            signal.raise_signal(signal.SIGTERM)
            async with asyncio.timeout(DEADLINE_SECONDS):
                await task
        finally:
            task.cancel()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110  (nobody tells a test what the file system does)
            await asyncio.sleep(0.01)


def is_known(workshop: Workshop, document_id: str) -> bool:
    with workshop.database.reading() as connection:
        return documents.show(connection, "ssign", document_id) is not None


def arrive(workshop: Workshop, number: int) -> Entry:
    """Bring an entry into the spool in one step, as the door does."""
    elsewhere = replace(workshop, spool=Spool(workshop.spool.root.parent / "elsewhere", workshop.clock))
    elsewhere.spool.initialise()
    entry = elsewhere.put({"envelopeId": number, "action": "EXPIRED"})
    elsewhere.spool.path(Folder.SPOOL, entry).rename(workshop.spool.path(Folder.SPOOL, entry))
    return entry


async def test_what_lies_there_and_what_arrives_is_recorded_without_waiting_for_the_sweep(
    workshop: Workshop,
) -> None:
    workshop.put({"envelopeId": 1, "action": "EXPIRED"})
    async with running(make_daemon(workshop)):
        await until(lambda: is_known(workshop, "1"))
        arrive(workshop, 2)
        await until(lambda: is_known(workshop, "2"))


async def test_a_sweep_that_takes_long_holds_up_no_arrival(workshop: Workshop) -> None:
    begun, may_end = threading.Event(), threading.Event()

    class LongRetention(Retention):
        def drop(self, stop: threading.Event) -> int:
            begun.set()
            may_end.wait(DEADLINE_SECONDS)
            return 0

    daemon = make_daemon(
        workshop, 0.05, housekeeping=make_housekeeping(workshop, LongRetention(workshop.spool, {}))
    )
    async with running(daemon):
        await until(begun.is_set)
        arrive(workshop, 1)
        await until(lambda: is_known(workshop, "1"))
        may_end.set()


async def test_what_the_watcher_did_not_tell_is_found_by_the_sweep(workshop: Workshop) -> None:
    class Deaf(Arrivals):
        def add(self, entries: Iterable[Entry]) -> None:
            """Hears of nothing."""

    daemon = make_daemon(workshop, 0.05, pipeline=workshop.pipeline(arrivals=Deaf()))
    async with running(daemon):
        arrive(workshop, 1)
        await until(lambda: is_known(workshop, "1"))


async def test_what_was_in_hand_when_the_database_went_is_taken_up_before_the_next_sweep(
    workshop: Workshop,
) -> None:
    times = count()

    class TroubledOnce(Reader):
        def read(self, entry: Entry) -> ReadEntry:
            if next(times) == 0:
                raise DatabaseUnavailableError("the database does not answer")
            return super().read(entry)

    reader = TroubledOnce(workshop.spool, workshop.pipeline().reader._providers)
    async with running(make_daemon(workshop, pipeline=workshop.pipeline(reader=reader))):
        arrive(workshop, 1)
        await until(lambda: is_known(workshop, "1"))


async def test_a_database_that_is_away_is_told_once_each_way_and_charges_nobody(workshop: Workshop) -> None:
    """Although the look at the spool and the sweep both notice."""
    away = threading.Event()
    noticed: set[str] = set()

    def use(who: str) -> None:
        if away.is_set():
            noticed.add(who)
            raise DatabaseUnavailableError("the database does not answer")

    class TroubledReader(Reader):
        def read(self, entry: Entry) -> ReadEntry:
            use("look")
            return super().read(entry)

    class TroubledSettler(Settler):
        def scan(self) -> int:
            use("sweep")
            return super().scan()

    pipeline = workshop.pipeline()
    pipeline.reader = TroubledReader(workshop.spool, pipeline.reader._providers)
    settler = TroubledSettler(workshop.spool, workshop.spool_id, workshop.database, keep_done=True)
    daemon = make_daemon(workshop, 0.05, pipeline=pipeline, settler=settler)
    async with running(daemon) as lines:
        away.set()
        arrive(workshop, 1)
        await until(lambda: noticed == {"look", "sweep"})
        away.clear()
        await until(lambda: is_known(workshop, "1"))
        await until(lambda: any(line["event"] == "processor.available" for line in lines))
    told = [line["event"] for line in lines if "available" in line["event"]]
    assert told == ["processor.unavailable", "processor.available"]


class Told(Notifier):
    """Keeps what it is told instead of sending it."""

    def __init__(self, watchdog_seconds: float | None = None) -> None:
        super().__init__("/somewhere", watchdog_seconds=watchdog_seconds)
        self.words: list[str] = []

    def _send(self, words: str, patience_seconds: float = 0.0) -> None:
        self.words.append(words)

    def beats(self) -> int:
        return self.words.count("WATCHDOG=1")


async def test_the_service_manager_hears_when_it_is_ready_and_when_it_stops(workshop: Workshop) -> None:
    told = Told()
    async with running(make_daemon(workshop, notifier=told)):
        await until(lambda: "STATUS=recording what arrives" in told.words)
        assert told.words[0] == "READY=1"
    assert told.words[-1] == "STOPPING=1"


async def test_it_is_not_ready_as_long_as_the_database_is_away(workshop: Workshop) -> None:
    """The status says what it waits for."""
    told, away = Told(), True

    class Away(Settler):
        def scan(self) -> int:
            if away:
                raise DatabaseUnavailableError("the database is away")
            return 0

    settler = Away(workshop.spool, workshop.spool_id, workshop.database, keep_done=True)
    daemon = make_daemon(workshop, notifier=told, settler=settler)
    with structlog.testing.capture_logs():
        task = asyncio.create_task(daemon.run())
        await until(lambda: "STATUS=not ready: the database is away" in told.words)
        assert "READY=1" not in told.words
        away = False
        await until(lambda: "READY=1" in told.words)
        signal.raise_signal(signal.SIGTERM)
        await task


async def test_one_that_stands_by_is_ready_and_alive(workshop: Workshop) -> None:
    told = Told(watchdog_seconds=0.3)
    with alone(workshop.spool.root / LOCK) as is_ours, structlog.testing.capture_logs():
        assert is_ours
        task = asyncio.create_task(make_daemon(workshop, notifier=told).run())
        await until(lambda: told.beats() > 1)
        assert told.words[:2] == ["STATUS=standing by: another processor works on this spool", "READY=1"]
        signal.raise_signal(signal.SIGTERM)
        await task


async def test_it_gives_signs_of_life_while_nothing_arrives(workshop: Workshop) -> None:
    """However long it is until the next sweep."""
    told = Told(watchdog_seconds=0.3)
    async with running(make_daemon(workshop, notifier=told)):
        await until(lambda: told.beats() > 3)


async def hears_nothing(told: Told) -> bool:
    """Whether there is no sign of life for some time."""
    beats = told.beats()
    await asyncio.sleep(0.4)
    return told.beats() == beats


async def test_a_pass_that_hangs_ends_the_signs_of_life(workshop: Workshop) -> None:
    """Although the event loop, the watcher and the lanes go on."""
    told, hangs, may_go_on = Told(watchdog_seconds=0.1), threading.Event(), threading.Event()

    class Hanging(Reader):
        def read(self, entry: Entry) -> ReadEntry:
            hangs.set()
            may_go_on.wait(DEADLINE_SECONDS)
            return super().read(entry)

    daemon = make_daemon(workshop, notifier=told)
    daemon.pipeline.reader = Hanging(workshop.spool, {"ssign": workshop.provider("ssign")})
    async with running(daemon):
        arrive(workshop, 1)
        await until(hangs.is_set)
        # The first time one may still have been on its way.
        assert await hears_nothing(told) or await hears_nothing(told)
        beats = told.beats()
        may_go_on.set()
        await until(lambda: told.beats() > beats)


async def test_each_batch_of_a_backlog_is_a_sign_of_life(workshop: Workshop) -> None:
    """A pass over a million entries takes longer than anybody waits."""
    told = Told(watchdog_seconds=1e-6)
    for number in range(6):
        workshop.put({"envelopeId": number, "action": "EXPIRED"})
    daemon = make_daemon(workshop, notifier=told, pipeline=workshop.pipeline(batch_size=2))
    seen: list[int] = []

    class Counting(Reader):
        def read(self, entry: Entry) -> ReadEntry:
            seen.append(told.beats())
            return super().read(entry)

    daemon.pipeline.reader = Counting(workshop.spool, {"ssign": workshop.provider("ssign")})
    async with running(daemon):
        await until(lambda: len(seen) == 6)
    assert seen[0] < seen[2] < seen[4]


class Requesting(Taker):
    """Has one request in hand, which takes a moment longer than whoever began it."""

    def __init__(self, workshop: Workshop) -> None:
        monotonic = workshop.clock.monotonic
        super().__init__(
            "requesting",
            database=workshop.database,
            breaker=Breaker(failures=1, pause_seconds=1, monotonic=monotonic),
            access=Access("requesting", pause_seconds=1, monotonic=monotonic),
            means=Means(),
            settings=TakerSettings(1, 1.0, 60.0, 1.0, 1.0),
        )
        self.is_answered = False
        self._is_left = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        self._begin(1, self._request())
        try:
            await stop.wait()
        finally:
            self._is_left.set()

    async def take(self) -> int:
        return 0

    async def _request(self) -> None:
        await self._is_left.wait()
        await asyncio.sleep(0.1)
        self.is_answered = True


async def test_what_is_in_hand_ends_in_order_when_a_part_of_the_daemon_fails(workshop: Workshop) -> None:
    """Cut off in the middle of a request it might have to be held, which is for a person to judge."""

    class Failing(Retention):
        def drop(self, stop: threading.Event) -> int:
            raise ZeroDivisionError("nobody foresaw this")

    requesting = Requesting(workshop)
    housekeeping = make_housekeeping(workshop, Failing(workshop.spool, {}))
    daemon = make_daemon(workshop, 0.05, housekeeping=housekeeping, lanes=[requesting])
    with pytest.raises(ExceptionGroup) as caught:
        await daemon.run()
    assert caught.group_contains(ZeroDivisionError)
    assert requesting.is_answered

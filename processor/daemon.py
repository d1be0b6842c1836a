"""The daemon: wake, list, work, wait; one process for each spool; a graceful end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog

from processor import outbox
from processor.agreed import AgreedTime
from processor.download import remove_leftovers
from processor.housekeeping import Housekeeping
from processor.lanes import Lane
from processor.means import Means
from processor.metrics import ProcessorMetrics
from processor.pipeline import Pipeline, Tally, TooManyBadError
from processor.poll import Poller
from processor.settle import Settler
from processor.watch import watch
from shared.db.session import Database
from shared.errors import SchemaError, UnavailableError
from shared.spool import Spool
from shared.writer import SpoolWriter

log = structlog.get_logger()

LOCK = ".processor.lock"
_SPARE_THREADS = 8
_STANDBY_LOOK_SECONDS = 0.5
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 4.0
_BAD_STREAK_PAUSE_SECONDS = 60.0


@dataclass(slots=True)
class Daemon:
    """Works off one spool and the outbox. Everything it uses is handed in."""

    spool: Spool
    spool_id: str
    database: Database
    pipeline: Pipeline
    settler: Settler
    housekeeping: Housekeeping
    lanes: list[Lane]
    pollers: list[Poller]
    writer: SpoolWriter
    means: Means
    metrics: ProcessorMetrics
    time: AgreedTime
    sweep_seconds: float
    grace_seconds: float
    _grace_ends_at: float = field(default=0.0, init=False)
    """On the loop's clock, once told to stop."""

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT; then end what is in hand, within the grace time.

        Spool and database may be away, at the start too.

        Raises:
            SchemaError: the tables are of another version at the start; the message says what to type.
        """
        loop = asyncio.get_running_loop()
        # Enough for every lane to hang with all it may do at once, and the rest still to go on.
        threads = _SPARE_THREADS + sum(2 * part.concurrency for part in self._busy_parts)
        loop.set_default_executor(ThreadPoolExecutor(threads, thread_name_prefix="processor"))
        stop, stopping = asyncio.Event(), threading.Event()
        self._end_on_signal(stop, stopping)
        async with self._alone(stop):
            if not stop.is_set():
                with self._writing():
                    await self._work(stop, stopping)
        log.info("processor.stopped")

    async def run_once(self) -> Tally:
        """One pass: record what lies in the spool, do what is due now to its end, settle, return.

        SIGTERM and SIGINT end it early; what is in hand then has the grace time.

        Raises:
            UnavailableError: spool or database are away, the tables are of another version, or another
                processor works on this spool.
        """
        stop, stopping = asyncio.Event(), threading.Event()
        self._end_on_signal(stop, stopping)
        with single_instance(self.spool.root) as alone:
            if not alone:
                raise UnavailableError("another processor works on this spool: stop it first")
            await asyncio.to_thread(self._prepare)
            with self._writing():
                await self._ask_once(stop)
            tally = await asyncio.to_thread(self.pipeline.work_through, stopping)
            # Each thing done may make another one due, so go on until a round finds nothing.
            while not stop.is_set() and any([await lane.take() for lane in self.lanes]):
                for lane in self.lanes:
                    await lane.drain(self.grace_seconds, stop)
            await asyncio.to_thread(self.settler.scan)
            return tally

    async def _ask_once(self, stop: asyncio.Event) -> None:
        """Ask about everything that is due; what is due again at once, as a queue that has more, too."""
        while not stop.is_set() and any([await poller.take() for poller in self.pollers]):
            for poller in self.pollers:
                await poller.drain(self.grace_seconds)

    # The parts

    @property
    def _busy_parts(self) -> tuple[Lane | Poller, ...]:
        """Those that have something in hand with others."""
        return (*self.lanes, *self.pollers)

    @property
    def _lane_names(self) -> list[str]:
        return [lane.name for lane in self.lanes]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """What providers say when they are asked can be written into the spool."""
        self.writer.start()
        try:
            yield
        finally:
            self.writer.close()

    def _end_on_signal(self, stop: asyncio.Event, stopping: threading.Event) -> None:
        def end() -> None:
            if stop.is_set():
                return
            log.info("processor.stopping", grace_seconds=self.grace_seconds)
            stop.set()
            stopping.set()
            self._wake_lanes()
            self._grace_ends_at = loop.time() + self.grace_seconds
            # A database that hangs keeps nobody longer than that.
            loop.call_at(self._grace_ends_at, self.database.give_up)

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)

    def _wake_lanes(self) -> None:
        for part in self._busy_parts:
            part.wake()

    @asynccontextmanager
    async def _alone(self, stop: asyncio.Event) -> AsyncIterator[None]:
        """Wait, as a hot standby, until no other processor works on this spool."""
        told = False
        while not stop.is_set():
            with single_instance(self.spool.root) as alone:
                if alone:
                    self.metrics.stands_by(False)
                    yield
                    return
            self.metrics.stands_by(True)
            if not told:
                log.info("processor.standby", reason="another processor works on this spool")
                told = True
            await _sleep(stop, _STANDBY_LOOK_SECONDS)
        yield

    async def _work(self, stop: asyncio.Event, stopping: threading.Event) -> None:
        if not await self._until_prepared(stop):
            return
        look = asyncio.Event()
        look.set()
        loop = asyncio.get_running_loop()
        self.pipeline.on_owing = partial(_call_soon, loop, self._wake_lanes)
        log.info("processor.started", spool=str(self.spool.root), lanes=self._lane_names)
        async with asyncio.TaskGroup() as group:
            group.create_task(watch(self.spool, self.pipeline.arrivals, look.set, stop))
            for part in self._busy_parts:
                group.create_task(part.run(stop))
            group.create_task(self._sweep_again_and_again(stop))
            group.create_task(self._keep_house_again_and_again(stop, stopping))
            await self._look_again_and_again(look, stop, stopping)
        left_seconds = max(0.0, self._grace_ends_at - loop.time())
        async with asyncio.timeout(left_seconds + 5):
            await asyncio.gather(*(part.drain(left_seconds) for part in self._busy_parts))

    async def _until_prepared(self, stop: asyncio.Event) -> bool:
        """Get ready, for as long as spool or database are away; False when told to stop meanwhile."""
        pause = _Pause()
        while not stop.is_set():
            try:
                await asyncio.to_thread(self._prepare)
            except SchemaError:
                # Somebody has to type something first.
                raise
            except UnavailableError as error:
                self.means.missed("start", error)
                await _sleep(stop, pause.after(error))
            else:
                self.means.found("start")
                return True
        return False

    def _prepare(self) -> None:
        """What a start does once: take over from the process before us."""
        self.database.check_schema()
        self.time.ask()
        self.pipeline.in_hand.after_start()
        for day in _folders(self.spool.files):
            remove_leftovers(day)
        self.spool.make_day_folders()
        with self.database.transaction() as connection:
            outbox.release_leases(connection, self.spool_id)
            # Settings may have changed since; whatever still lacks something says so again.
            outbox.wake_waiting(connection, self._lane_names, self.spool.clock.now())
            for poller in self.pollers:
                poller.prepare(connection)
        self.settler.scan()

    async def _look_again_and_again(
        self, look: asyncio.Event, stop: asyncio.Event, stopping: threading.Event
    ) -> None:
        """Record what has arrived at every wake-up, and all that lies in `spool/` at every sweep."""
        pause, clock, arrivals = _Pause(), self.spool.clock, self.pipeline.arrivals
        listed_at = clock.monotonic()
        while not stop.is_set():
            look.clear()
            listing = arrivals.listing_needed() or clock.monotonic() - listed_at >= self.sweep_seconds
            try:
                await asyncio.to_thread(self.pipeline.work_through, stopping, listing=listing)
            except UnavailableError as error:
                # What was in hand lies in spool/ still.
                arrivals.missed_some()
                self.means.missed("recording", error, alarm=isinstance(error, TooManyBadError))
                await _sleep(stop, pause.after(error))
                continue
            if listing:
                listed_at = clock.monotonic()
            self.means.found("recording")
            self.metrics.passed()
            pause = _Pause()
            await _either(look, stop, self.sweep_seconds)

    async def _sweep_again_and_again(self, stop: asyncio.Event) -> None:
        """What need not be done at every wake-up, and holds up no arrival however long it takes."""
        while not stop.is_set():
            await _sleep(stop, self.sweep_seconds)
            try:
                await asyncio.to_thread(self._sweep)
            except UnavailableError as error:
                self.means.missed("sweep", error)
            else:
                self.means.found("sweep")
                self.metrics.swept()

    async def _keep_house_again_and_again(self, stop: asyncio.Event, stopping: threading.Event) -> None:
        """What is done once a day, and may take long."""
        while not stop.is_set():
            await _sleep(stop, self.sweep_seconds)
            try:
                await asyncio.to_thread(self.housekeeping.work, stopping)
            except UnavailableError as error:
                self.means.missed("housekeeping", error)
            else:
                self.means.found("housekeeping")

    def _sweep(self) -> None:
        self.spool.make_day_folders()
        self.time.ask()
        with self.database.transaction() as connection:
            outbox.wake_ours(connection, self._lane_names)
        self.settler.scan()


class _Pause:
    """How long to wait while our own means are gone: longer from time to time."""

    def __init__(self) -> None:
        self._seconds = _FIRST_PAUSE_SECONDS

    def after(self, error: UnavailableError) -> float:
        """Seconds until the next try."""
        if isinstance(error, TooManyBadError):
            return _BAD_STREAK_PAUSE_SECONDS
        seconds, self._seconds = self._seconds, min(self._seconds * 2, _LONGEST_PAUSE_SECONDS)
        return seconds


@contextmanager
def single_instance(root: Path) -> Iterator[bool]:
    """Whether this is the only processor on a spool; the lock is held inside the block."""
    descriptor = os.open(root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _call_soon(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    """Have something done on the loop's thread."""
    loop.call_soon_threadsafe(act)


def _folders(path: Path) -> list[Path]:
    try:
        return [item for item in path.iterdir() if item.is_dir()]
    except OSError:
        return []


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


async def _either(look: asyncio.Event, stop: asyncio.Event, seconds: float) -> None:
    """Wait for a wake-up, for the end, or for the timer."""
    waits = [asyncio.create_task(look.wait()), asyncio.create_task(stop.wait())]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()

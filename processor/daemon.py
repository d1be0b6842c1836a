"""The daemon: wake, list, work, wait; one process for each spool; a graceful end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog
from sqlalchemy import Connection

from processor import outbox
from processor.agreed import AgreedTime
from processor.alone import alone
from processor.download import remove_leftovers
from processor.housekeeping import Housekeeping
from processor.lanes import Lane
from processor.means import Means
from processor.metrics import ProcessorMetrics
from processor.pipeline import Pipeline, Tally, TooManyBadError
from processor.poll import Poller
from processor.settle import Settler
from processor.watch import watch
from shared import hangup
from shared.db.session import Database
from shared.errors import SchemaError, SettingsError, SpoolUnavailableError, UnavailableError
from shared.notify import Notifier
from shared.spool import Spool
from shared.writer import SpoolWriter

log = structlog.get_logger()

LOCK = ".processor.lock"
_SPARE_THREADS = 8
_STANDBY_LOOK_SECONDS = 0.5
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 4.0
_BAD_STREAK_PAUSE_SECONDS = 60.0


async def _as_it_is(_daemon: Daemon) -> list[Lane | Poller]:
    """Settings that stay as they are."""
    return []


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
    notifier: Notifier = field(default_factory=Notifier)
    reload: Callable[[Daemon], Awaitable[list[Lane | Poller]]] = _as_it_is
    """Called on SIGHUP: exchanges what follows the settings; returns what has to begin, or raises
    SettingsError."""
    _reload_asked: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _threads: int = field(default=0, init=False)
    _told_of_standby: bool = field(default=False, init=False)
    _grace_ends_at: float = field(default=0.0, init=False)
    """On the loop's clock; 0 until told to stop."""

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT; then end what is in hand, within the grace time.

        Spool and database may be away, at the start too.

        Raises:
            SchemaError: the tables are of another version at the start; the message says what to type.
        """
        loop = asyncio.get_running_loop()
        self._have_threads(loop)
        loop.add_signal_handler(signal.SIGHUP, self._reload_asked.set)
        hangup.release()
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
        with alone(self.spool.root / LOCK) as is_ours:
            if not is_ours:
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
    def served_lanes(self) -> list[Lane]:
        """Those that are in the settings."""
        return [lane for lane in self.lanes if not lane.is_ended]

    @property
    def asking_pollers(self) -> list[Poller]:
        """Those whose provider is in the settings."""
        return [poller for poller in self.pollers if not poller.is_ended]

    @property
    def _busy_parts(self) -> tuple[Lane | Poller, ...]:
        """Those that have something in hand with others."""
        return (*self.lanes, *self.pollers)

    @property
    def _lane_names(self) -> list[str]:
        return [lane.name for lane in self.served_lanes]

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
            self.notifier.stopping()
            stop.set()
            stopping.set()
            self.wake()
            self._grace_ends_at = loop.time() + self.grace_seconds
            # A database that hangs keeps nobody longer than that.
            loop.call_at(self._grace_ends_at, self.database.give_up)

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)

    def _have_threads(self, loop: asyncio.AbstractEventLoop) -> None:
        """Enough for every lane to hang with all it may do at once, and the rest still to go on."""
        threads = _SPARE_THREADS + sum(2 * part.concurrency for part in self._busy_parts)
        if threads > self._threads:
            self._threads = threads
            loop.set_default_executor(ThreadPoolExecutor(threads, thread_name_prefix="processor"))

    def wake(self) -> None:
        """Something may be due, in whichever lane."""
        for part in self._busy_parts:
            part.wake()

    @asynccontextmanager
    async def _alone(self, stop: asyncio.Event) -> AsyncIterator[None]:
        """Wait, as a hot standby, until no other processor works on this spool."""
        while not stop.is_set():
            with contextlib.ExitStack() as held:
                try:
                    is_ours = held.enter_context(alone(self.spool.root / LOCK))
                except SpoolUnavailableError as error:
                    self.means.missed("start", error)
                    self.notifier.status(f"not ready: {error}")
                else:
                    self.means.found("start")
                    self.metrics.stands_by(not is_ours)
                    if is_ours:
                        yield
                        return
                    self._tell_of_standby()
            self.notifier.alive()
            await _sleep(stop, _STANDBY_LOOK_SECONDS)
        yield

    def _tell_of_standby(self) -> None:
        self.notifier.status("standing by: another processor works on this spool")
        if not self._told_of_standby:
            self._told_of_standby = True
            log.info("processor.standby", reason="another processor works on this spool")
            # Standing by is what it is there for until the other one ends.
            self.notifier.ready()

    async def _work(self, stop: asyncio.Event, stopping: threading.Event) -> None:
        if not await self._until_prepared(stop):
            return
        look = asyncio.Event()
        look.set()
        loop = asyncio.get_running_loop()
        self.pipeline.on_owing = partial(_call_soon, loop, self.wake)
        self.pipeline.on_batch = self.notifier.alive
        log.info("processor.started", spool=str(self.spool.root), lanes=self._lane_names)
        self.notifier.ready()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(watch(self.spool, self.pipeline.arrivals, look.set, stop))
                for part in self._busy_parts:
                    group.create_task(part.run(stop))
                group.create_task(self._sweep_again_and_again(stop))
                group.create_task(self._keep_house_again_and_again(stop, stopping))
                group.create_task(self._reload_when_asked(stop, group))
                await self._look_again_and_again(look, stop, stopping)
        finally:
            # When one of them failed, too: what is cut off in the middle of a request may have to be held.
            await self._drain()

    async def _drain(self) -> None:
        """Let what is in hand with others end, within the grace time."""
        left_seconds = self.grace_seconds
        if self._grace_ends_at:
            left_seconds = max(0.0, self._grace_ends_at - asyncio.get_running_loop().time())
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
                self.notifier.status(f"not ready: {error}")
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
            self._tell_budgets(connection)
        self.settler.scan()

    async def _look_again_and_again(
        self, look: asyncio.Event, stop: asyncio.Event, stopping: threading.Event
    ) -> None:
        """Record what has arrived at every wake-up, and all that lies in `spool/` at every sweep."""
        pause, clock, arrivals = _Pause(), self.spool.clock, self.pipeline.arrivals
        listed_at = clock.monotonic()
        while not stop.is_set():
            self.notifier.alive()
            look.clear()
            listing = arrivals.listing_needed() or clock.monotonic() - listed_at >= self.sweep_seconds
            try:
                await asyncio.to_thread(self.pipeline.work_through, stopping, listing=listing)
            except UnavailableError as error:
                # What was in hand lies in spool/ still.
                arrivals.missed_some()
                self.means.missed("recording", error, alarm=isinstance(error, TooManyBadError))
                self.notifier.status(f"recording nothing: {error}")
                await self._wait(stop, stop, pause.after(error))
                continue
            if listing:
                listed_at = clock.monotonic()
            self.means.found("recording")
            self.metrics.passed()
            self.notifier.status("recording what arrives")
            pause = _Pause()
            await self._wait(look, stop, self.sweep_seconds)

    async def _wait(self, look: asyncio.Event, stop: asyncio.Event, seconds: float) -> None:
        """Wait for a wake-up, for the end, or for the timer; tells meanwhile that the loop goes round."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        while not (look.is_set() or stop.is_set()) and (left := ends_at - loop.time()) > 0:
            self.notifier.alive()
            await _either(look, stop, min(left, self.notifier.beat_seconds or left))

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

    async def _reload_when_asked(self, stop: asyncio.Event, group: asyncio.TaskGroup) -> None:
        """Take over new settings at every SIGHUP; when they are wrong, the work goes on with the old ones."""
        while not stop.is_set():
            await _either(self._reload_asked, stop, None)
            if stop.is_set() or not self._reload_asked.is_set():
                continue
            self._reload_asked.clear()
            self.notifier.reloading()
            try:
                begun = await self.reload(self)
            except SettingsError as error:
                # The message says what to do; a trace would hide it.
                log.error("settings.refused", reason=str(error), in_effect="the old ones")  # noqa: TRY400
            except Exception:
                log.exception("settings.refused", in_effect="the old ones")
            else:
                self._have_threads(asyncio.get_running_loop())
                for part in begun:
                    group.create_task(part.run(stop))
            finally:
                self.notifier.ready()

    def _sweep(self) -> None:
        self.spool.make_day_folders()
        self.time.ask()
        with self.database.transaction() as connection:
            outbox.wake_ours(connection, self._lane_names)
            self._tell_budgets(connection)
        self.settler.scan()

    def _tell_budgets(self, connection: Connection) -> None:
        for poller in self.asking_pollers:
            if (standing := poller.standing(connection)) is not None:
                self.metrics.budgeted(poller.provider_name, **standing._asdict())


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


async def _either(look: asyncio.Event, stop: asyncio.Event, seconds: float | None) -> None:
    """Wait for a wake-up, for the end, or for the timer."""
    waits = [asyncio.create_task(look.wait()), asyncio.create_task(stop.wait())]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()

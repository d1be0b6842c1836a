"""The processor's private address: what is read off the daemon at a scrape, and its health.

The processor's health is the age of the oldest thing that it should have done: an entry that lies in
`spool/`, something owed that is due while its lane is open, a provider that has to be asked, the last pass,
the last sweep. A new duty is one more `Duty` in `Judge._duties`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from sqlalchemy import Connection

from processor.census import SEEN_IN, Census, Count
from processor.daemon import Daemon
from processor.figures import Figures, figures
from processor.owed import provider_lane
from processor.silence import last_callbacks
from shared.clock import Clock
from shared.metrics import catalogue
from shared.metrics.families import build_info, figure, look_ages
from shared.metrics.families import figures as family_of
from shared.metrics.looks import Look
from shared.metrics.private import Health, PrivateAddress
from shared.settings import Settings
from shared.spool import Folder

BEAT_SECONDS = 1.0
ALIVE_SECONDS = 10.0
_LOOK_SECONDS = 2.0
_STALE_SECONDS = 60.0
_LONG_AGO = timedelta(days=400)
"""Who has sent nothing for longer is not known to have sent anything."""
_AGED = (Folder.SPOOL, Folder.DEFERRED, Folder.QUARANTINE)


@dataclass(frozen=True, slots=True)
class Duty:
    """Something that the processor should have done, and since how many seconds."""

    about: str
    late_seconds: float


@dataclass(frozen=True, slots=True)
class _Spool:
    """The census of the folders, with the time at which it was taken."""

    at: datetime
    counts: Mapping[Folder, Count]

    def oldest_seconds(self, folder: Folder) -> float:
        """How long the oldest entry had been there; 0 without any."""
        return self._seconds(self.counts[folder].oldest_at)

    def unseen_seconds(self, folder: Folder) -> float:
        """How long the oldest that came after a person last looked had been there; 0 without any."""
        return self._seconds(self.counts[folder].oldest_unseen_at)

    def _seconds(self, since: float | None) -> float:
        return 0.0 if since is None else max(0.0, self.at.timestamp() - since)


@dataclass(frozen=True, slots=True)
class _Database:
    """What was found in the database, with the time at which it was looked for."""

    at: datetime
    figures: Figures
    last_callbacks: Mapping[str, datetime]

    def overdue_seconds(self, lane: str) -> float:
        """How long the oldest thing owed in a lane has been due; 0 without any."""
        return self._seconds(self.figures.overdue_since.get(lane))

    def poll_overdue_seconds(self, provider: str) -> float:
        """How long a provider should have been asked about something; 0 for nothing."""
        return self._seconds(self.figures.poll_overdue_since.get(provider))

    def unanswered_seconds(self, provider: str) -> float:
        """How long a provider has left unanswered what it is asked; 0 when that is nothing."""
        return self._seconds(self.figures.unanswered_since.get(provider))

    def _seconds(self, since: datetime | None) -> float:
        return 0.0 if since is None else max(0.0, (self.at - since).total_seconds())


class Judge:
    """Looks at what a daemon should have done, and judges it."""

    def __init__(self, daemon: Daemon, *, late_after_seconds: float) -> None:
        clock: Clock = daemon.spool.clock
        census = Census(daemon.spool)
        self._daemon = daemon
        self._late_after_seconds = late_after_seconds
        self._beat_at = time.monotonic()
        self._last_callbacks: dict[str, datetime] = {}
        self._looked_for: set[str] = set()
        self.spool = Look("spool", lambda: _Spool(clock.now(), census.take()), keep_seconds=_LOOK_SECONDS)
        self.database = Look("database", self._look_at_database, keep_seconds=_LOOK_SECONDS)

    def _look_at_database(self) -> _Database:
        daemon = self._daemon
        now = daemon.spool.clock.now()
        lanes = [lane.name for lane in daemon.served_lanes]
        with daemon.database.reading() as connection:
            found = figures(connection, lanes, spool_id=daemon.spool_id, now=now)
            self._look_for_callbacks(connection, now)
        return _Database(now, found, dict(self._last_callbacks))

    def _look_for_callbacks(self, connection: Connection, now: datetime) -> None:
        """Far back the first time that a provider is looked for; after that, what is new is enough."""
        lanes = (lane.name.partition(":") for lane in self._daemon.served_lanes)
        wanted = {name for kind, _, name in lanes if kind == "provider"}
        since = now if wanted <= self._looked_for else now - _LONG_AGO
        for provider, at in last_callbacks(connection, wanted, since=since).items():
            self._last_callbacks[provider] = max(at, self._last_callbacks.get(provider, at))
        self._looked_for |= wanted

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """Look at spool and database while the block lasts."""
        self.spool.start()
        self.database.start()
        with contextlib.closing(self.spool), contextlib.closing(self.database):
            yield

    async def beat(self) -> None:
        """Say once a second that the loop turns; never returns."""
        while True:
            self._beat_at = time.monotonic()
            await asyncio.sleep(BEAT_SECONDS)

    def oldest(self) -> Duty:
        """The duty that is latest; a processor that stands by has none."""
        if self._daemon.metrics.is_standby:
            return Duty("standby", 0.0)
        return max(self._duties(), key=lambda duty: duty.late_seconds)

    def _duties(self) -> Iterator[Duty]:
        daemon, now = self._daemon, time.monotonic()
        # Both are made again and again, so that they are due only after that time.
        for about, done_at in (("pass", daemon.metrics.passed_at), ("sweep", daemon.metrics.swept_at)):
            yield Duty(about, max(0.0, now - done_at - daemon.sweep_seconds))
        spool, database = self.spool.latest(), self.database.latest()
        if spool is not None:
            yield Duty("spool", spool.value.oldest_seconds(Folder.SPOOL))
        if database is not None:
            for lane in daemon.served_lanes:
                # A peer that is left alone is no fault of ours, and has an alarm of its own.
                if not lane.breaker.is_open:
                    yield Duty(lane.name, database.value.overdue_seconds(lane.name))
            for poller in daemon.asking_pollers:
                if not poller.is_left_alone:
                    yield Duty(poller.name, database.value.poll_overdue_seconds(poller.provider_name))

    def is_database_up(self) -> bool:
        """Whether the last look at the database succeeded, and was not long ago."""
        return self.database.error is None and self.database.age_seconds() < _STALE_SECONDS

    def alive(self) -> Health:
        """The process: whether its event loop turns."""
        silent_seconds = time.monotonic() - self._beat_at
        if silent_seconds > ALIVE_SECONDS:
            return Health(f"the event loop has not turned for {silent_seconds:.0f} s: restart the service")
        return Health()

    def ready(self) -> Health:
        """The work: whether the oldest thing that should have been done is young enough."""
        oldest = self.oldest()
        details = {"oldest_seconds": round(oldest.late_seconds, 1), "oldest": oldest.about}
        if (alive := self.alive()).reason is not None:
            return Health(alive.reason, details)
        if self._daemon.metrics.is_standby:
            return Health(None, details)
        if not self._daemon.means.are_there or not self.is_database_up():
            return Health("spool or database are away: look for processor.unavailable in the log", details)
        if self.spool.age_seconds() > _STALE_SECONDS:
            return Health("the spool does not answer: look at its disk or mount", details)
        if oldest.late_seconds > self._late_after_seconds:
            return Health(
                f"{oldest.about}: the oldest thing should have been done {oldest.late_seconds:.0f} s ago",
                details,
            )
        return Health(None, details)


class DaemonCollector(Collector):
    """The gauges that are read off the daemon, the spool and the database."""

    def __init__(self, daemon: Daemon, judge: Judge) -> None:
        self._daemon = daemon
        self._judge = judge

    def describe(self) -> Iterable[Family]:
        """Nothing ahead of time: asking would look at everything."""
        return []

    def collect(self) -> Iterator[Family]:
        """Every family."""
        daemon, judge = self._daemon, self._judge
        yield build_info("processor")
        yield figure(catalogue.AVAILABLE, float(daemon.means.are_there))
        yield figure(catalogue.LATENESS, judge.oldest().late_seconds)
        left_alone = {(lane.name,): float(lane.breaker.is_open) for lane in daemon.served_lanes}
        left_alone |= {(poller.name,): float(poller.is_left_alone) for poller in daemon.asking_pollers}
        yield family_of(catalogue.BREAKER_OPEN, left_alone)
        yield from self._spool()
        yield from self._database()
        yield look_ages([judge.spool, judge.database])

    def _spool(self) -> Iterator[Family]:
        found = self._judge.spool.latest()
        if found is None:
            return
        counts = found.value.counts
        yield family_of(
            catalogue.SPOOL_ENTRIES, {(str(folder),): count.entries for folder, count in counts.items()}
        )
        yield family_of(
            catalogue.SPOOL_OLDEST_AGE,
            {(str(folder),): found.value.oldest_seconds(folder) for folder in _AGED},
        )
        yield family_of(catalogue.SPOOL_UNSEEN, {(str(folder),): counts[folder].unseen for folder in SEEN_IN})
        yield family_of(
            catalogue.SPOOL_UNSEEN_AGE,
            {(str(folder),): found.value.unseen_seconds(folder) for folder in SEEN_IN},
        )

    def _database(self) -> Iterator[Family]:
        found = self._judge.database.latest()
        yield figure(catalogue.DATABASE_UP, float(self._judge.is_database_up()))
        if found is None:
            return
        lanes = {lane.name for lane in self._daemon.served_lanes}
        yield family_of(catalogue.DELIVERIES, found.value.figures.owed)
        yield family_of(
            catalogue.OVERDUE,
            {(lane.name,): found.value.overdue_seconds(lane.name) for lane in self._daemon.served_lanes},
        )
        yield family_of(
            catalogue.LAST_RECEIVED,
            {
                (name,): at.timestamp()
                for name, at in found.value.last_callbacks.items()
                if provider_lane(name) in lanes
            },
        )
        yield family_of(
            catalogue.POLL_UNANSWERED,
            {
                (poller.provider_name,): found.value.unanswered_seconds(poller.provider_name)
                for poller in self._daemon.asking_pollers
            },
        )


@asynccontextmanager
async def private_address(daemon: Daemon, settings: Settings) -> AsyncIterator[None]:
    """Serve the daemon's metrics and health while the block lasts, if the settings name a port."""
    port = settings.metrics.processor_port
    if port is None:
        yield
        return
    judge = Judge(daemon, late_after_seconds=settings.metrics.late_after)
    daemon.metrics.add(DaemonCollector(daemon, judge))
    address = PrivateAddress(
        settings.metrics.host,
        port,
        registry=daemon.metrics.registry,
        alive=judge.alive,
        ready=judge.ready,
    )
    beat = asyncio.create_task(judge.beat(), name="beat")
    try:
        with judge.looking(), address:
            yield
    finally:
        beat.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beat

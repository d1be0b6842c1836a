"""What the door counts: on the way of a callback plain numbers, made into metrics when somebody asks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from callback_api.admission import Admission
from callback_api.guard import Guard
from callback_api.responses import PROBLEMS, problem_of
from shared.clock import Clock
from shared.commit import NewFile
from shared.metrics import catalogue
from shared.metrics.board import Board, Row
from shared.metrics.catalogue import COMMIT_BUCKETS, DURABLE_BUCKETS, FILES_BUCKETS, UNKNOWN
from shared.metrics.families import build_info, figure, figures, histogram, look_ages, registry
from shared.metrics.looks import Look
from shared.metrics.private import Health, PrivateAddress
from shared.providers import provider_classes
from shared.providers._base import ReturnSettings
from shared.settings import Settings
from shared.spool import Spool

ACCEPTED, DISCONNECTED = "accepted", "disconnected"
BEAT_SECONDS = 1.0
ALIVE_SECONDS = 5.0
"""A worker whose last beat is longer ago hangs, or is gone."""

_LOOK_SECONDS = 1.0
_ROWS_OF_A_WORKER = 2
"""While workers are replaced, old and new ones count at the same time."""


def _outcome(kind: str) -> str:
    """The word for a problem, as in its type `/problems/not-proven`."""
    return kind.rpartition("/")[2].replace("-", "_")


OUTCOMES = (ACCEPTED, DISCONNECTED, *sorted({_outcome(problem.type) for problem in PROBLEMS.values()}))
RETURN_OUTCOMES = tuple(outcome for outcome in OUTCOMES if outcome != DISCONNECTED)
"""A browser's return has no body during which it could hang up."""
# Every provider that there is, so that workers with other settings than their parent agree on the places.
PROVIDERS = (*sorted(provider_classes()), UNKNOWN)


class _Places:
    """Where each number stands in a row. A histogram is its sum, then one cell for each bucket."""

    def __init__(self) -> None:
        self.width = 0
        self.beat_at = self._take(1)
        self.is_ready = self._take(1)
        self.requests = self._take(1)
        self.body_bytes = self._take(1)
        self.failed_files = self._take(1)
        self.files = self._take(len(FILES_BUCKETS) + 2)
        self.commits = self._take(len(COMMIT_BUCKETS) + 2)
        self.providers: dict[str, int] = {name: self._take(_PROVIDER_CELLS) for name in PROVIDERS}
        self.returns: dict[str, int] = {name: self._take(len(RETURN_OUTCOMES)) for name in PROVIDERS}

    def _take(self, count: int) -> int:
        first, self.width = self.width, self.width + count
        return first


_OUTCOME_PLACES = {outcome: place for place, outcome in enumerate(OUTCOMES)}
_RETURN_PLACES = {outcome: place for place, outcome in enumerate(RETURN_OUTCOMES)}
# From the first cell of a provider, where its outcomes begin.
_ACCEPTED_AT = len(OUTCOMES)
_DURABLE = _ACCEPTED_AT + 1
_PROVIDER_CELLS = _DURABLE + len(DURABLE_BUCKETS) + 2
_AT = _Places()
_PROVIDER_PLACES = _AT.providers
_UNKNOWN_PLACE = _AT.providers[UNKNOWN]


def new_board(workers: int = 1) -> Board:
    """A board for the workers of one door."""
    return Board(_AT.width, _ROWS_OF_A_WORKER * workers)


class DoorCounts:
    """What one worker counts, for all doors that it opens one after the other.

    To be called on the event loop's thread alone.
    """

    def __init__(self, board: Board | None = None) -> None:
        self._row: Row = (board or new_board()).claim()
        self._doors: list[tuple[Guard, Admission]] = []

    def accepted(self, provider: str, started: float) -> None:
        """A callback is safe on disk; `started` is when its head had come, by `time.perf_counter`."""
        row, now = self._row, time.perf_counter()
        seconds = now - started
        place = _PROVIDER_PLACES.get(provider, _UNKNOWN_PLACE)
        row[place] += 1.0  # `accepted` is the first of the outcomes.
        row[place + _ACCEPTED_AT] = now
        row[place + _DURABLE] += seconds
        row[place + _DURABLE + 1 + bisect_left(DURABLE_BUCKETS, seconds)] += 1.0

    def refused(self, provider: str, error: BaseException) -> None:
        """A request was turned away, whoever is to blame."""
        self._count(provider, _outcome(problem_of(error)[0].type))

    def disconnected(self, provider: str) -> None:
        """The sender hung up."""
        self._count(provider, DISCONNECTED)

    def returned(self, provider: str, error: BaseException | None = None) -> None:
        """A browser came back and its return is safe on disk, or `error` says why it is not.

        The provider is a name of the settings, or empty when the browser named none of those.
        """
        outcome = ACCEPTED if error is None else _outcome(problem_of(error)[0].type)
        self._row[_AT.returns.get(provider, _AT.returns[UNKNOWN]) + _RETURN_PLACES[outcome]] += 1.0

    def _count(self, provider: str, outcome: str) -> None:
        self._row[_PROVIDER_PLACES.get(provider, _UNKNOWN_PLACE) + _OUTCOME_PLACES[outcome]] += 1.0

    def group(self, files: Sequence[NewFile], seconds: float) -> None:
        """A group of files was brought to disk, or failed."""
        row = self._row
        row[_AT.failed_files] += float(sum(file.error is not None for file in files))
        row[_AT.files] += len(files)
        row[_AT.files + 1 + bisect_left(FILES_BUCKETS, len(files))] += 1.0
        row[_AT.commits] += seconds
        row[_AT.commits + 1 + bisect_left(COMMIT_BUCKETS, seconds)] += 1.0

    @asynccontextmanager
    async def beating(self, guard: Guard, admission: Admission) -> AsyncIterator[None]:
        """Say once a second, while a door is open, that the loop turns, and what it has in hand.

        Of several doors the newest says whether all is well; what they have in hand is added up.
        """

        async def beat_on() -> None:
            while True:
                self._beat()
                await asyncio.sleep(BEAT_SECONDS)

        door = (guard, admission)
        self._doors.append(door)
        self._beat()
        task = asyncio.create_task(beat_on(), name="beat")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self._doors.remove(door)
            if self._doors:
                self._beat()
            else:
                self._row[_AT.beat_at] = 0.0

    def _beat(self) -> None:
        guard, _ = self._doors[-1]
        self._row[_AT.is_ready] = float(guard.reason is None)
        self._row[_AT.requests] = sum(admission.requests for _, admission in self._doors)
        self._row[_AT.body_bytes] = sum(admission.bytes for _, admission in self._doors)
        # Last, so that whoever finds it finds the others.
        self._row[_AT.beat_at] = time.monotonic()


@dataclass(frozen=True, slots=True)
class _Disk:
    """What is free on the spool's file system, and why nothing can be stored."""

    free_bytes: int | None
    free_files: int | None
    reason: str | None


class DoorCollector(Collector):
    """The door's metrics: the sums over all workers."""

    def __init__(self, board: Board, settings: Settings) -> None:
        self._board = board
        self.follow(settings)
        self.disk = Look("disk", self._look_at_disk, keep_seconds=_LOOK_SECONDS)

    def follow(self, settings: Settings) -> None:
        """These are in effect from now on."""
        spool = Spool(settings.spool.root, Clock.in_zone(settings.spool.timezone))
        self._settings = settings
        self._looked_at = (Guard(spool, min_free_bytes=settings.spool.min_free), spool)

    def describe(self) -> list[Family]:
        """Nothing ahead of time: asking would look at everything."""
        return []

    def collect(self) -> Iterator[Family]:
        """Every family."""
        rows = [list(row) for row in self._board.rows]
        providers = [*self._settings.providers, UNKNOWN]
        yield build_info("door")
        yield figures(
            catalogue.CALLBACKS,
            {
                (name, outcome): _sum(rows, _AT.providers[name] + place)
                for name in providers
                for outcome, place in _OUTCOME_PLACES.items()
            },
        )
        yield histogram(
            catalogue.CALLBACK_DURABLE,
            {
                (name,): _sums(rows, _AT.providers[name] + _DURABLE, len(DURABLE_BUCKETS))
                for name in self._settings.providers
            },
        )
        yield figures(
            catalogue.RETURNS,
            {
                (name, outcome): _sum(rows, _AT.returns[name] + place)
                for name in [*self._returning(), UNKNOWN]
                for outcome, place in _RETURN_PLACES.items()
            },
        )
        # It is noted by the clock that is read anyway, which is the same for every process.
        clock_began_at = time.time() - time.perf_counter()
        yield figures(
            catalogue.CALLBACK_LAST_ACCEPTED,
            {
                (name,): clock_began_at + accepted_at
                for name in self._settings.providers
                if (accepted_at := max(row[_AT.providers[name] + _ACCEPTED_AT] for row in rows))
            },
        )
        yield histogram(catalogue.COMMIT_FILES, {(): _sums(rows, _AT.files, len(FILES_BUCKETS))})
        yield histogram(catalogue.COMMIT_DURATION, {(): _sums(rows, _AT.commits, len(COMMIT_BUCKETS))})
        yield figure(catalogue.COMMIT_FAILED_FILES, _sum(rows, _AT.failed_files))
        alive = living(self._board)
        yield figure(catalogue.DOOR_WORKERS, len(alive))
        yield figure(catalogue.DOOR_READY, float(bool(alive) and all(row[_AT.is_ready] for row in alive)))
        yield figure(catalogue.DOOR_REQUESTS, sum(row[_AT.requests] for row in alive))
        yield figure(catalogue.DOOR_BODY_BYTES, sum(row[_AT.body_bytes] for row in alive))
        yield from self._room()

    def _returning(self) -> list[str]:
        """The providers from whose pages browsers come back."""
        sections = self._settings.providers
        return [name for name, section in sections.items() if isinstance(section, ReturnSettings)]

    def _room(self) -> Iterator[Family]:
        yield figure(catalogue.MIN_FREE_BYTES, self._settings.spool.min_free)
        found = self.disk.latest()
        yield look_ages([self.disk])
        if found is None:
            return
        if found.value.free_bytes is not None:
            yield figure(catalogue.FREE_BYTES, found.value.free_bytes)
        if found.value.free_files is not None:
            yield figure(catalogue.FREE_FILES, found.value.free_files)

    def _look_at_disk(self) -> _Disk:
        guard, spool = self._looked_at
        reason = guard.look()
        try:
            status = os.statvfs(spool.root)
        except OSError:
            return _Disk(None, None, reason)  # The guard has found words for it.
        return _Disk(
            free_bytes=status.f_bavail * status.f_frsize,
            free_files=status.f_favail if status.f_files else None,
            reason=reason,
        )


def living(board: Board) -> list[list[float]]:
    """The rows of the workers whose loop turns."""
    now = time.monotonic()
    rows = [list(row) for row in board.rows]
    return [row for row in rows if row[_AT.beat_at] and now - row[_AT.beat_at] < ALIVE_SECONDS]


@contextlib.contextmanager
def private_address(settings: Settings, board: Board) -> Iterator[Callable[[Settings], None]]:
    """Serve the door's metrics and health while the block lasts, if the settings name a port.

    What is yielded takes other settings, to be shown from then on.
    """
    port = settings.metrics.api_port
    if port is None:
        yield lambda _settings: None
        return
    collector = DoorCollector(board, settings)
    address: AbstractContextManager[PrivateAddress] = PrivateAddress(
        settings.metrics.host,
        port,
        registry=registry(collector),
        alive=partial(_alive, board),
        ready=partial(_ready, board, collector.disk),
    )
    collector.disk.start()
    with contextlib.closing(collector.disk), address:
        yield collector.follow


def _alive(board: Board) -> Health:
    workers = len(living(board))
    reason = None if workers else "no worker's event loop turns: restart the service if this lasts"
    return Health(reason, {"workers": workers})


def _ready(board: Board, disk: Look[_Disk]) -> Health:
    alive = _alive(board)
    if alive.reason is not None:
        return alive
    found = disk.latest()
    if found is None or disk.age_seconds() > ALIVE_SECONDS:
        return Health("the spool's file system does not answer: look at its disk or mount", alive.details)
    return Health(found.value.reason, alive.details)


def _sum(rows: Sequence[Sequence[float]], place: int) -> float:
    return sum(row[place] for row in rows)


def _sums(rows: Sequence[Sequence[float]], place: int, buckets: int) -> tuple[list[float], float]:
    """The counts of a histogram's buckets, the open one last, and its sum."""
    counts = [_sum(rows, cell) for cell in range(place + 1, place + buckets + 2)]
    return counts, _sum(rows, place)

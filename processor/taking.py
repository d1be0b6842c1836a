"""What lanes and pollers have in common: they take what is due, a few things at once, and have it in hand."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection

from processor.access import Access
from processor.breaker import Breaker
from processor.means import Means
from shared.db.session import Database

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TakerSettings:
    """How somebody works; all in seconds or counts."""

    concurrency: int
    look_seconds: float
    lease_seconds: float
    backoff_base_seconds: float
    backoff_cap_seconds: float
    away_pause_seconds: float = 2.0
    """Between two tries while our own means are gone."""


class Taker(ABC):
    """Takes what is due until it is stopped. `access` is shared by all that asks the peer."""

    _settings: TakerSettings

    def __init__(
        self,
        name: str,
        *,
        database: Database,
        breaker: Breaker,
        access: Access,
        means: Means,
        settings: TakerSettings,
    ) -> None:
        self.name = name
        self.breaker = breaker
        self._database = database
        self._access = access
        self._means = means
        self._settings = settings
        self._wake = asyncio.Event()
        self._working: dict[int, asyncio.Task[None]] = {}
        self._bygone: set[int] = set()
        """Of what is in hand: begun with other settings, so that it says nothing of our present key."""
        self.is_ended = False
        """Whether nothing more is to be taken."""
        self._is_running = False

    @property
    def concurrency(self) -> int:
        """How much is done at once."""
        return self._settings.concurrency

    @property
    def in_hand(self) -> frozenset[asyncio.Task[None]]:
        """What is being done."""
        return frozenset(self._working.values())

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    def end(self) -> None:
        """Take nothing more; what is in hand goes on."""
        self.is_ended = True
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Take and do what is due until told to stop or `end`; what is in hand then goes on, see `drain`."""
        self._is_running = True
        while not (stop.is_set() or self.is_ended):
            await self.take()
            await self._sleep(self._settings.look_seconds)
        self._is_running = False

    @abstractmethod
    async def take(self) -> int:
        """Begin what is due, as far as there is room; returns how much was begun."""

    async def drain(self, grace_seconds: float, stop: asyncio.Event | None = None) -> None:
        """Let what is in hand end.

        Once `stop` is set, or at once without one, it has the grace time: what has not ended then is cut off,
        and taken up at the next start.
        """
        working = set(self._working.values())
        if working and stop is not None:
            stopped = asyncio.create_task(stop.wait())
            while working and not stopped.done():
                done, _ = await asyncio.wait({*working, stopped}, return_when=asyncio.FIRST_COMPLETED)
                working -= done
            stopped.cancel()
        if working:
            _, late = await asyncio.wait(working, timeout=grace_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _go_on_with(self, breaker: Breaker, access: Access, settings: TakerSettings) -> bool:
        """Do with these whatever is begun from now on; tells whether `run` has ended and must begin again."""
        self.breaker, self._access, self._settings = breaker, access, settings
        self._bygone = set(self._working)
        # One that has not yet seen that it was to end just goes on.
        self.is_ended = False
        return not self._is_running

    def _room(self) -> int:
        """How much more may be begun now."""
        return self._access.allowance(self.breaker.allowance(self.concurrency - len(self._working)))

    def _begin(self, row_id: int, doing: Coroutine[Any, Any, None]) -> None:
        """Have something in hand that was leased just now."""
        self.breaker.begin()
        self._access.begin()
        task = asyncio.create_task(doing)
        self._working[row_id] = task
        task.add_done_callback(partial(self._finished, row_id))

    def _finished(self, row_id: int, _task: asyncio.Task[None]) -> None:
        self._working.pop(row_id, None)
        self._bygone.discard(row_id)
        self._wake.set()

    async def _sleep(self, seconds: float) -> None:
        """Wait until something may be due, so long at most."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _in_database(self, act: Callable[[Connection], T]) -> T:
        """Do something in a transaction, off the loop."""

        def run() -> T:
            with self._database.transaction() as connection:
                return act(connection)

        return await asyncio.to_thread(run)

"""Lanes: what is owed to one peer, done a few at a time, so that no slow peer holds up another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from time import perf_counter
from typing import TypeVar

import structlog
from sqlalchemy import Connection

from processor import leasing, outbox
from processor.access import REFUSED, Access
from processor.breaker import Breaker
from processor.leasing import Leased
from processor.means import Means
from processor.metrics import ProcessorMetrics
from processor.settle import Settler
from processor.taking import Taker, TakerSettings
from processor.work import Worker
from shared.backoff import backoff_seconds
from shared.db.models import Task
from shared.db.session import Database
from shared.errors import (
    AccessError,
    HeldError,
    LeaseLostError,
    NotReadyError,
    OverQuotaError,
    PermanentError,
    TransientError,
    UnavailableError,
    WaitingError,
)
from shared.masking import mask

log = structlog.get_logger()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LaneSettings(TakerSettings):
    """How a lane works; all in seconds or counts."""

    attempts: int = field(kw_only=True)


class Lane(Taker):
    """Works off one lane of the outbox until it is stopped."""

    _settings: LaneSettings

    def __init__(
        self,
        name: str,
        *,
        database: Database,
        worker: Worker,
        settler: Settler,
        breaker: Breaker,
        access: Access,
        settings: LaneSettings,
        means: Means,
        metrics: ProcessorMetrics,
        wake_all: Callable[[], None],
        now: Callable[[], datetime],
    ) -> None:
        super().__init__(
            name, database=database, breaker=breaker, access=access, means=means, settings=settings
        )
        self._worker = worker
        self._settler = settler
        self._metrics = metrics
        self._wake_all = wake_all
        self._now = now
        self._lease_unknown = False

    def adopt(self, worker: Worker, breaker: Breaker, access: Access, settings: LaneSettings) -> bool:
        """Do with these whatever is begun from now on; tells whether `run` has ended and must begin again."""
        self._worker = worker
        return self._go_on_with(breaker, access, settings)

    async def take(self) -> int:
        if (room := self._room()) <= 0:
            return 0
        in_hand = frozenset(self._working)
        try:
            taken = await self._lease(room, in_hand)
        except UnavailableError as error:
            # The connection may have been lost while the lease was committed.
            self._lease_unknown = True
            self._means.missed(self.name, error)
            await self._sleep(self._settings.away_pause_seconds)
            return 0
        self._means.found(self.name)
        for leased in taken:
            self._begin(leased.id, self._do(leased))
        return len(taken)

    async def _lease(self, room: int, busy: frozenset[int]) -> list[Leased]:
        """Lease only what is begun at once, so that no lease runs out while something waits its turn."""
        while True:
            # One transaction a look, so that nobody else is held up by a long queue.
            taken, again = await self._in_database(lambda connection: self._look(connection, room, busy))
            self._lease_unknown = False
            if taken or not again:
                return taken

    def _look(self, connection: Connection, room: int, busy: frozenset[int]) -> tuple[list[Leased], bool]:
        spool_id = self._worker.spool_id
        if self._lease_unknown:
            leasing.disown(connection, self.name, busy, spool_id=spool_id)
        return leasing.lease(
            connection,
            self.name,
            room,
            spool_id=spool_id,
            now=self._now(),
            lease_seconds=self._settings.lease_seconds,
            least_tried_first=self.breaker.is_open,
            busy=busy,
        )

    # One owed thing

    async def _do(self, leased: Leased) -> None:
        renewal = asyncio.create_task(self._renew_lease(leased))
        ending = "cut_off"
        try:
            ending = await self._attempt(leased)
        except LeaseLostError as error:
            ending = "lease_lost"
            self.breaker.abandoned()
            log.warning("delivery.lease_lost", reason=str(error), **_fields(leased, self.name))
        except asyncio.CancelledError:
            log.warning("delivery.cut_off", **_fields(leased, self.name))
            raise
        finally:
            renewal.cancel()
            self._metrics.attempted(self.name, leased.task, ending)
            # Whatever it missed last, it misses nothing any more.
            self._means.found(_part(leased))

    async def _attempt(self, leased: Leased) -> str:
        """Make an attempt; returns how it ended, in the words of the metrics."""
        began = perf_counter()
        try:
            try:
                note = await self._worker.do(leased)
            finally:
                self._metrics.worked(self.name, leased.task, perf_counter() - began)
            # What was done is written down however long the database takes to come back.
            spare = await self._write(leased, note)
        except LeaseLostError:
            raise
        except Exception as error:  # noqa: BLE001  (every error is judged, none is dropped)
            return await self._judge(leased, error)
        else:
            self._key_accepted(leased)
            self._succeeded()
            log.info("delivery.done", **_fields(leased, self.name))
            if leased.task in (Task.FETCH, Task.DELIVER):
                self._wake_all()
            if spare:
                await self._forget_files(leased, spare)
            await self._settle(leased)
            return "done"

    async def _judge(self, leased: Leased, error: Exception) -> str:
        """Decide what a failed attempt leads to, and say so in the words of the metrics."""
        reason = mask(str(error))
        match error:
            case UnavailableError():
                self.breaker.abandoned()
                self._means.missed(_part(leased), error)
                await self._give_back(leased, self._settings.away_pause_seconds)
                ending = "given_back"
            case WaitingError():
                self.breaker.abandoned()
                ending = await self._wait(leased, error)
            case OverQuotaError():
                self.breaker.abandoned()
                await self._wait_for_calls(leased, error)
                ending = "given_back"
            case HeldError():
                if isinstance(error.__cause__, TransientError):
                    self._failed(error.__cause__)
                else:
                    self.breaker.abandoned()
                ending = await self._end(leased, reason, outbox.hold, "delivery.held")
            case PermanentError():
                self._succeeded()
                ending = await self._end(leased, reason, outbox.give_up, "delivery.failed")
            case NotReadyError():
                # The peer answered, about this one document.
                self._key_accepted(leased)
                self.breaker.abandoned()
                ending = await self._retry_later(leased, reason, error.retry_after_seconds)
            case TransientError():
                self._failed(error)
                ending = await self._retry_later(leased, reason, error.retry_after_seconds)
            case _:
                self.breaker.abandoned()
                log.error("delivery.unexpected", exc_info=error, **_fields(leased, self.name))
                unexpected = f"unexpected {type(error).__name__}: look for delivery.unexpected in the log"
                ending = await self._retry_later(leased, unexpected, None, without_effect=False)
        return ending

    async def _give_back(self, leased: Leased, delay_seconds: float, reason: str | None = None) -> None:
        await self._write(
            leased,
            lambda connection: outbox.give_back(
                connection, leased, now=self._now(), delay_seconds=delay_seconds, reason=reason
            ),
        )

    async def _wait(self, leased: Leased, error: WaitingError) -> str:
        """Something has to be said or set first; where that is our key, it concerns everything alike."""
        reason = str(error)
        if isinstance(error, AccessError) and leased.id in self._bygone:
            # It was the key before, and nobody knows yet what they say to this one.
            await self._give_back(leased, 0.0, f"{REFUSED}{reason}")
            return "given_back"
        if isinstance(error, AccessError) and self._access.refused(error, _part(leased)):
            # Another one makes the next trial.
            await self._give_back(leased, self._access.wait_seconds(), f"{REFUSED}{reason}")
            await self._try_again_if_bygone(leased)
            return "given_back"
        log.info("delivery.waiting", reason=reason, **_fields(leased, self.name))
        await self._write(leased, lambda connection: outbox.let_wait(connection, leased, reason, self._now()))
        await self._try_again_if_bygone(leased)
        return "waiting"

    async def _try_again_if_bygone(self, leased: Leased) -> None:
        """New settings wake what waits; what was in hand, and began to wait after that, they would miss."""
        if leased.id in self._bygone:
            lanes = [self.name]
            await self._write(leased, lambda connection: outbox.try_again(connection, lanes, self._now()))

    async def _wait_for_calls(self, leased: Leased, error: OverQuotaError) -> None:
        """Nothing is asked there until the account has calls again."""
        asked_seconds = error.retry_after_seconds
        seconds = self._settings.backoff_cap_seconds if asked_seconds is None else asked_seconds
        self._access.used_up(seconds)
        log.warning(
            "delivery.calls_used_up",
            reason=str(error),
            in_seconds=round(seconds, 1),
            **_fields(leased, self.name),
        )
        await self._give_back(leased, seconds, str(error))

    async def _retry_later(
        self, leased: Leased, error: str, asked_seconds: float | None, *, without_effect: bool = True
    ) -> str:
        settings = self._settings
        if leased.attempt >= settings.attempts:
            if not without_effect and leased.task in (Task.DELIVER, Task.ADVANCE):
                return await self._end(leased, error, outbox.hold, "delivery.held")
            reason = f"given up after {leased.attempt} attempts: {error}"
            return await self._end(leased, reason, outbox.give_up, "delivery.failed")
        delay = backoff_seconds(
            leased.attempt,
            base_seconds=settings.backoff_base_seconds,
            cap_seconds=settings.backoff_cap_seconds,
        )
        if asked_seconds is not None:
            delay = max(delay, min(asked_seconds, settings.backoff_cap_seconds))
        log.warning("delivery.retry", error=error, in_seconds=round(delay, 1), **_fields(leased, self.name))
        await self._write(
            leased,
            lambda connection: outbox.put_off(
                connection,
                leased,
                error,
                now=self._now(),
                delay_seconds=delay,
                without_effect=without_effect,
            ),
        )
        return "retry"

    async def _end(
        self,
        leased: Leased,
        reason: str,
        how: Callable[[Connection, Leased, str], None],
        event: str,
    ) -> str:
        log.error(event, reason=reason, **_fields(leased, self.name))
        await self._write(leased, lambda connection: how(connection, leased, reason))
        await self._settle(leased)
        return event.removeprefix("delivery.")

    async def _write(self, leased: Leased, act: Callable[[Connection], T]) -> T | None:
        """Note how an attempt ended, for as long as it takes the database to come back.

        None when it was noted already, by a try that was committed although its answer was lost.

        Raises:
            LeaseLostError: another process has taken the work over.
        """
        was_lost = False
        while True:
            try:
                written = await self._in_database(act)
            except UnavailableError as error:
                was_lost = True
                self._means.missed(_part(leased), error)
                await asyncio.sleep(self._settings.away_pause_seconds)
            except LeaseLostError:
                self._means.found(_part(leased))
                if was_lost:
                    return None
                raise
            else:
                self._means.found(_part(leased))
                return written

    async def _forget_files(self, leased: Leased, paths: list[str]) -> None:
        """Delete what nobody needs any more. It is done all the same when that cannot be."""
        try:
            await asyncio.to_thread(self._worker.forget_files, paths)
        except UnavailableError as error:
            log.warning("file.not_deleted", paths=paths, reason=str(error), **_fields(leased, self.name))

    async def _settle(self, leased: Leased) -> None:
        try:
            await asyncio.to_thread(self._settler.settle_event, leased.event_fk)
        except UnavailableError as error:
            # The scan at the next sweep does it, and complains if it cannot.
            log.debug("entry.settled_later", error=str(error), **_fields(leased, self.name))

    # Waiting

    def _key_accepted(self, leased: Leased) -> None:
        if leased.id not in self._bygone:
            self._access.accepted(_part(leased))

    def _succeeded(self) -> None:
        if self.breaker.succeeded():
            log.info("lane.mended", lane=self.name)

    def _failed(self, error: BaseException) -> None:
        asked_seconds = error.retry_after_seconds if isinstance(error, TransientError) else None
        if asked_seconds is not None:
            asked_seconds = min(asked_seconds, self._settings.backoff_cap_seconds)
        if self.breaker.failed(asked_seconds or 0.0):
            log.error("lane.broken", lane=self.name, error=str(error))

    async def _renew_lease(self, leased: Leased) -> None:
        lease_seconds = self._settings.lease_seconds
        while True:
            await asyncio.sleep(lease_seconds / 3)
            try:
                await self._in_database(
                    lambda connection: leasing.renew(
                        connection, leased, now=self._now(), lease_seconds=lease_seconds
                    )
                )
            except UnavailableError as error:
                self._means.missed(_part(leased), error)
            else:
                self._means.found(_part(leased))


def _part(leased: Leased) -> str:
    """The name of one delivery among the parts that may miss our means."""
    return f"delivery {leased.id}"


def _fields(leased: Leased, lane: str) -> dict[str, object]:
    return {
        "receipt": leased.receipt_id,
        "task": str(leased.task),
        "lane": lane,
        "delivery": leased.id,
        "attempt": leased.attempt,
    }

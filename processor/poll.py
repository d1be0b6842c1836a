"""Asks a provider about what is due, spools what it says, and only then notes when to ask again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import structlog
from sqlalchemy import Connection

from processor import polls
from processor.access import REFUSED, Access
from processor.breaker import Breaker
from processor.budget import Standing, ask_every_seconds, standing
from processor.converse import converse
from processor.means import Means
from processor.polls import LeasedPoll
from processor.sender import StreamingSender
from processor.skim import ask_and_skim
from processor.taking import Taker, TakerSettings
from shared.backoff import backoff_seconds
from shared.clock import Clock
from shared.db.session import Database
from shared.errors import (
    AccessError,
    LeaseLostError,
    NotBookedError,
    NotSentError,
    OverQuotaError,
    PermanentError,
    SignspoolError,
    TransientError,
    UnavailableError,
    WaitingError,
)
from shared.events import Origin, Trust
from shared.making import make_entry
from shared.masking import mask
from shared.providers import AnyProvider
from shared.providers._base import Answer, Found, Polled, Request
from shared.spool import Folder
from shared.writer import SpoolWriter

log = structlog.get_logger()


class Poller(Taker):
    """Asks one provider until it is stopped. Its times live in the database.

    `on_answer` is called whenever the provider has answered, about whatever.
    """

    def __init__(
        self,
        provider: AnyProvider,
        *,
        sender: StreamingSender,
        writer: SpoolWriter,
        database: Database,
        spool_id: str,
        breaker: Breaker,
        access: Access,
        means: Means,
        settings: TakerSettings,
        clock: Clock,
        on_answer: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            f"poll:{provider.name}",
            database=database,
            breaker=breaker,
            access=access,
            means=means,
            settings=settings,
        )
        self._provider = provider
        self._sender = sender
        self._writer = writer
        self._spool_id = spool_id
        self._clock = clock
        self._on_answer = on_answer
        self._place_seconds = _place_seconds(provider)
        self._places_at = 0.0
        self._held_until: dict[int, float] = {}
        """Of what is in hand: until when nobody else may ask about it, on the monotonic clock."""

    @property
    def provider_name(self) -> str:
        """Whom it asks."""
        return self._provider.name

    @property
    def is_left_alone(self) -> bool:
        """Whether the provider fails, or refuses our key, so that it is asked one thing after each pause."""
        return self.breaker.is_open or self._access.is_refused

    def prepare(self, connection: Connection) -> None:
        """At the start: take over from the process before us, and have asked about what the settings say."""
        polls.release_leases(connection, self._spool_id)
        self.keep(connection)

    def standing(self, connection: Connection) -> Standing | None:
        """How the provider's budget stands; None when nothing is known of a limit."""
        return standing(connection, self._provider, self._clock.now())

    def keep(self, connection: Connection) -> None:
        """Have asked about what the settings say."""
        now = self._clock.now()
        polls.keep(connection, self._provider.name, self._provider.standing_asks(), now)
        polls.keep_documents(connection, self._provider, now)

    def adopt(self, other: Poller) -> bool:
        """Ask as the other would from now on; tells whether `run` has ended and must begin again."""
        self._provider, self._sender = other._provider, other._sender
        self._place_seconds, self._places_at = other._place_seconds, 0.0
        self._wake.set()
        return self._go_on_with(other.breaker, other._access, other._settings)

    async def take(self) -> int:
        room = self._room()
        if room <= 0 or self._clock.monotonic() < self._places_at:
            return 0
        busy = frozenset(self._working)
        held_until = self._held_from_now()
        try:
            taken = await self._in_database(lambda connection: self._lease(connection, room, busy))
        except UnavailableError as error:
            self._means.missed(self.name, error)
            await asyncio.sleep(self._settings.away_pause_seconds)
            return 0
        self._means.found(self.name)
        for leased in taken:
            self._held_until[leased.id] = held_until
            self._begin(leased.id, self._do(leased))
        return len(taken)

    def _lease(self, connection: Connection, room: int, busy: frozenset[int]) -> list[LeasedPoll]:
        return polls.lease(
            connection,
            self._provider.name,
            room,
            leased_by=self._spool_id,
            now=self._clock.now(),
            lease_seconds=self._settings.lease_seconds,
            place_seconds=self._place_seconds,
            busy=busy,
        )

    def _finished(self, row_id: int, task: asyncio.Task[None]) -> None:
        self._held_until.pop(row_id, None)
        super()._finished(row_id, task)

    # One subject

    async def _do(self, leased: LeasedPoll) -> None:
        renewal = asyncio.create_task(self._renew_lease(leased))
        try:
            try:
                polled = await self._ask(leased)
            except LeaseLostError:
                self.breaker.abandoned()
                raise
            except SignspoolError as error:
                await self._judge(leased, error)
            except Exception as error:
                log.exception("poll.unexpected", **self._fields(leased))
                self.breaker.abandoned()
                await self._put_off(
                    leased,
                    f"unexpected {type(error).__name__}: look for poll.unexpected in the log",
                    self._place_seconds,
                )
            else:
                if leased.id not in self._bygone:
                    self._access.accepted(self._part(leased))
                self._works()
                # What is spooled already is noted however long the database takes to come back.
                await self._note(leased, lambda connection: self._finish(connection, leased, polled))
                log.info(
                    "poll.done",
                    found=len(polled.found),
                    again_seconds=polled.again_seconds,
                    **self._fields(leased),
                )
        except LeaseLostError as error:
            log.warning("poll.lease_lost", reason=str(error), **self._fields(leased))
        finally:
            renewal.cancel()
            self._means.found(self._part(leased))

    async def _ask(self, leased: LeasedPoll) -> Polled:
        polled = await converse(self._provider.poll(leased.view), partial(self._send, leased, self._sender))
        for found in polled.found:
            await self._spool_patiently(leased, found)
        return polled

    async def _spool_patiently(self, leased: LeasedPoll, found: Found) -> None:
        """Spool what was said; where asking again soon is not allowed, for as long as the spool is away."""
        while True:
            try:
                await self._spool(found)
            except UnavailableError as error:
                if not self._place_seconds:
                    raise
                self._means.missed(self._part(leased), error)
                await asyncio.sleep(self._settings.away_pause_seconds)
            else:
                return

    async def _send(self, leased: LeasedPoll, sender: StreamingSender, request: Request) -> Answer:
        """Send one request, unless this process hung, or could not renew its lease, for so long that another
        may be asking the same.

        Raises:
            LeaseLostError: the lease has run out.
        """
        if self._clock.monotonic() >= self._held_until[leased.id]:
            raise LeaseLostError("the lease ran out before it was asked: whoever takes it next asks")
        return await ask_and_skim(sender, request)

    def _held_from_now(self) -> float:
        return self._clock.monotonic() + self._settings.lease_seconds

    async def _spool(self, found: Found) -> None:
        made = make_entry(
            self._provider,
            found.head,
            found.payload,
            received_at=self._clock.local(),
            origin=Origin.POLL,
            # It came over a connection that we opened, from the host in our settings, with our own key.
            trust=Trust.PROVEN,
            content_type=found.content_type,
        )
        await self._writer.write(Folder.SPOOL, made.entry, made.content)
        log.info(
            "poll.spooled", provider=self._provider.name, receipt=made.receipt_id, bytes=len(found.payload)
        )

    async def _judge(self, leased: LeasedPoll, error: SignspoolError) -> None:
        """Decide what a failure leads to."""
        match error:
            case UnavailableError():
                self.breaker.abandoned()
                self._means.missed(self._part(leased), error)
                await asyncio.sleep(self._settings.away_pause_seconds)
                await self._note(leased, lambda connection: polls.give_back(connection, leased))
            case AccessError():
                self.breaker.abandoned()
                if leased.id in self._bygone or self._access.refused(error, self._part(leased)):
                    await self._give_back(leased, f"{REFUSED}{error}")
                else:
                    log.error("poll.failed", reason=str(error), **self._fields(leased))
                    await self._put_off(leased, str(error), self._settings.backoff_cap_seconds)
            case OverQuotaError():
                self.breaker.abandoned()
                self._wait_for_calls(error)
                await self._give_back(leased, str(error))
            case TransientError():
                asked_seconds = error.retry_after_seconds
                if self.breaker.failed(min(asked_seconds or 0.0, self._settings.backoff_cap_seconds)):
                    log.error("lane.broken", lane=self.name, error=str(error))
                if not isinstance(error, NotSentError):
                    # It has used its place as if it had been answered.
                    asked_seconds = max(asked_seconds or 0.0, self._place_seconds)
                await self._put_off(leased, str(error), asked_seconds)
            case PermanentError() | WaitingError():
                # It is about this one subject; whether our key was looked at is not known.
                self._works()
                log.error("poll.failed", reason=str(error), **self._fields(leased))
                wait_seconds = max(self._settings.backoff_cap_seconds, self._place_seconds)
                await self._put_off(leased, str(error), wait_seconds)
            case _:
                self.breaker.abandoned()
                log.error("poll.failed", reason=str(error), **self._fields(leased))
                await self._put_off(leased, str(error), self._place_seconds)

    def _wait_for_calls(self, error: OverQuotaError) -> None:
        """Ask nothing until there are calls again; if it was the provider that said so, nobody does."""
        asked_seconds = error.retry_after_seconds
        seconds = self._settings.backoff_cap_seconds if asked_seconds is None else asked_seconds
        now = self._clock.monotonic()
        waits_already = now < self._places_at or self._access.wait_seconds() > 0
        if isinstance(error, NotBookedError):
            self._places_at = max(self._places_at, now + seconds)
        else:
            self._access.used_up(seconds)
        if not waits_already:
            log.warning(
                "provider.calls_used_up",
                provider=self._provider.name,
                reason=str(error),
                in_seconds=round(seconds, 1),
            )

    async def _give_back(self, leased: LeasedPoll, reason: str) -> None:
        await self._note(leased, lambda connection: polls.give_back(connection, leased, reason))

    def _finish(self, connection: Connection, leased: LeasedPoll, polled: Polled) -> None:
        now, limits, again_seconds = self._clock.now(), self._provider.limits, polled.again_seconds
        if limits is not None and again_seconds is not None and again_seconds >= self._place_seconds:
            # Less often than it would like, while there are more subjects than the budget can carry.
            every_seconds = ask_every_seconds(connection, self._provider.name, limits, now)
            polled = replace(polled, again_seconds=max(again_seconds, every_seconds))
        polls.finish(connection, leased, polled, now)

    def _works(self) -> None:
        self._on_answer()
        if self.breaker.succeeded():
            log.info("lane.mended", lane=self.name)

    async def _put_off(self, leased: LeasedPoll, reason: str, asked_seconds: float | None) -> None:
        delay = backoff_seconds(
            leased.failures + 1,
            base_seconds=self._settings.backoff_base_seconds,
            cap_seconds=self._settings.backoff_cap_seconds,
        )
        delay = max(delay, asked_seconds or 0.0)
        log.warning("poll.retry", error=reason, in_seconds=round(delay, 1), **self._fields(leased))
        await self._note(
            leased,
            lambda connection: polls.put_off(
                connection, leased, mask(reason), now=self._clock.now(), delay_seconds=delay
            ),
        )

    async def _note(self, leased: LeasedPoll, act: Callable[[Connection], None]) -> None:
        """Write down how it ended, for as long as it takes the database to come back."""
        part = self._part(leased)
        while True:
            try:
                await self._in_database(act)
            except UnavailableError as error:
                self._means.missed(part, error)
                await asyncio.sleep(self._settings.away_pause_seconds)
            else:
                self._means.found(part)
                return

    async def _renew_lease(self, leased: LeasedPoll) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_seconds / 3)
            held_until = self._held_from_now()
            with contextlib.suppress(UnavailableError):
                # Whoever notes the end hears of an outage too, and says so.
                if await self._in_database(self._renewal(leased)):
                    self._held_until[leased.id] = held_until

    def _renewal(self, leased: LeasedPoll) -> Callable[[Connection], bool]:
        return lambda connection: polls.renew(
            connection, leased, now=self._clock.now(), lease_seconds=self._settings.lease_seconds
        )

    def _part(self, leased: LeasedPoll) -> str:
        return f"{self.name} {leased.id}"

    def _fields(self, leased: LeasedPoll) -> dict[str, object]:
        return {"provider": self._provider.name, "poll": leased.id}


def _place_seconds(provider: AnyProvider) -> float:
    """How long a subject that was asked about may not be asked about again, whatever became of it."""
    return 0.0 if provider.limits is None else provider.limits.ask_interval_seconds

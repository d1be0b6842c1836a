"""A sender whose every call is booked first: an account's limits hold however many processors work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TypeVar, Unpack

from sqlalchemy import Connection

from processor.budget import Budget
from processor.sender import SendOptions, Streamed, StreamingSender, StreamOptions
from shared.clock import Clock
from shared.db.session import Database
from shared.errors import (
    BooksAwayError,
    DatabaseUnavailableError,
    NotBookedError,
    NotSentError,
    UnavailableError,
)
from shared.providers import AnyProvider
from shared.providers._base import Answer

T = TypeVar("T")

_PATIENCE_SECONDS = 2.0
"""A place that is free so soon is waited for."""


class BookedSender:
    """Sends as the sender does that it is given, once the call is booked.

    A call that dies has used its place; one that is known never to have left gets it back. Both methods raise
    `NotBookedError` when no place is free within two seconds, and `BooksAwayError` when the database is away.
    """

    def __init__(
        self, sender: StreamingSender, budget: Budget, *, database: Database, clock: Clock, asking: bool
    ) -> None:
        self._sender = sender
        self._budget = budget
        self._database = database
        self._clock = clock
        self._asking = asking

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str], **options: Unpack[SendOptions]
    ) -> Answer:
        """Book, then send one request and read its answer into memory."""
        async with self._booked():
            return await self._sender.send(method, url, headers=headers, **options)

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, *, headers: Mapping[str, str], **options: Unpack[StreamOptions]
    ) -> AsyncIterator[Streamed]:
        """Book, then send one request; its answer is read within the block."""
        async with (
            self._booked(),
            self._sender.stream(method, url, headers=headers, **options) as streamed,
        ):
            yield streamed

    @asynccontextmanager
    async def _booked(self) -> AsyncIterator[None]:
        booked = await self._book()
        try:
            yield
        except NotSentError:
            # Should the books be away too, then the place stays used, which harms nobody.
            with suppress(UnavailableError):
                await self._in_database(lambda connection: self._budget.unbook(connection, booked))
            raise

    async def _book(self) -> list[int]:
        waited_seconds = 0.0
        while True:
            try:
                return await self._in_database(
                    lambda connection: self._budget.book(connection, self._clock.now(), asking=self._asking)
                )
            except NotBookedError as error:
                wait_seconds = error.retry_after_seconds or 0.0
                waited_seconds += wait_seconds
                if waited_seconds > _PATIENCE_SECONDS:
                    raise
                await asyncio.sleep(wait_seconds)
            except DatabaseUnavailableError as error:
                raise BooksAwayError(f"the call could not be booked, so it was not made: {error}") from error

    async def _in_database(self, act: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self._database.transaction() as connection:
                return act(connection)

        return await asyncio.to_thread(run)


def booked(
    provider: AnyProvider, sender: StreamingSender, *, database: Database, clock: Clock, asking: bool = False
) -> StreamingSender:
    """The sender for a provider: one that books first if the provider's account has limits."""
    limits = provider.limits
    if limits is None:
        return sender
    budget = Budget(provider.name, limits)
    return BookedSender(sender, budget, database=database, clock=clock, asking=asking)

"""Sending within a budget: what cannot be booked was not sent, and the same reference may be tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Connection, select

from processor.booked import BookedSender
from processor.budget import Budget
from processor.outside import Outside
from processor.sending import Dispatch, Sending, look_at, make_order
from shared.db.models import SendingRow, SendingState
from shared.db.session import Database
from shared.errors import BooksAwayError, DatabaseUnavailableError, NotBookedError
from shared.providers._base import Limits, ProviderSettings, SendOptions
from tests.processor.conftest import Workshop
from tests.processor.test_sending import NAME, ORIGIN, SendingProvider


class FailingDatabase(Database):
    """Answers once, and then no more."""

    answers = 1

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        self.answers -= 1
        if self.answers < 0:
            raise DatabaseUnavailableError("no answer")
        with super().transaction() as connection:
            yield connection


def send(workshop: Workshop, path: Path, books: Database, *, per_hour: int) -> Sending:
    """Send the file at `path`: takes two calls, the second of which has the effect."""

    async def answer(request: httpx.Request) -> httpx.Response:
        await request.aread()
        return httpx.Response(200, json={"id": "s1"})

    outside = Outside(
        "Sending",
        origins=frozenset({ORIGIN}),
        connect_timeout_seconds=60,
        read_timeout_seconds=60,
        total_timeout_seconds=120,
        transport=httpx.MockTransport(answer),
    )
    budget = Budget("account", Limits(per_hour=per_hour))
    sender = BookedSender(outside, budget, database=books, clock=workshop.clock, asking=False)
    provider, file = SendingProvider(NAME, ProviderSettings()), look_at(path)
    order = make_order(
        provider,
        [file],
        reference="r1",
        title="Contract",
        signers=[],
        options=SendOptions(),
        return_url=None,
        metadata={},
    )
    dispatch = Dispatch(provider, sender, workshop.database, workshop.clock)
    return asyncio.run(dispatch.send(order, [file], dms={}))


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    path = tmp_path / "contract.pdf"
    path.write_bytes(b"%PDF-1.7")
    return path


def state(workshop: Workshop) -> str | None:
    with workshop.database.reading() as connection:
        return connection.scalar(select(SendingRow.state))


def test_used_up_calls_leave_nothing_unknown(workshop: Workshop, contract: Path) -> None:
    with pytest.raises(NotBookedError):
        send(workshop, contract, workshop.database, per_hour=1)
    assert state(workshop) == SendingState.INTENDED
    workshop.time.pass_seconds(3600)
    assert send(workshop, contract, workshop.database, per_hour=2).envelope_id == "s1"
    assert state(workshop) == SendingState.SENT


def test_books_that_are_away_leave_nothing_unknown(workshop: Workshop, contract: Path) -> None:
    """They go after the first of two calls: when the second one was noted as sent, and was not."""
    gone = FailingDatabase(workshop.database.url)
    with pytest.raises(BooksAwayError):
        send(workshop, contract, gone, per_hour=9)
    gone.close()
    assert state(workshop) == SendingState.INTENDED

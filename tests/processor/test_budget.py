"""The books of an account: no call without a place, whoever makes it, and a month that lasts to its end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pytest
from sqlalchemy import Connection, func, select

from processor import budget, polls
from processor.booked import BookedSender
from processor.budget import Budget, Span, windows_of
from shared.db.models import CallRow
from shared.db.session import Database
from shared.errors import NoAnswerError, NotBookedError, NotSentError
from shared.providers._base import Answer, Ask, Limits, ProviderSettings
from tests.doubles import FakeTime
from tests.processor.asking import NAME, AskedProvider
from tests.waiting import PATIENCE_SECONDS

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


class Books:
    """The budget of one account, and an instant that is set."""

    def __init__(self, database: Database, **limits: Any) -> None:
        self.database = database
        self.budget = Budget("account", Limits(**limits))
        self.now = NOON

    def book(self, times: int = 1, *, asking: bool = False) -> None:
        for _ in range(times):
            with self.database.transaction() as connection:
                self.budget.book(connection, self.now, asking=asking)

    def refusal(self, *, asking: bool = False) -> NotBookedError:
        with pytest.raises(NotBookedError) as refused:
            self.book(asking=asking)
        return refused.value

    def used(self, span: Span) -> int:
        with self.database.reading() as connection:
            found = connection.scalar(select(func.sum(CallRow.calls)).where(CallRow.span == span))
            return int(found or 0)


@pytest.mark.parametrize(
    ("limit", "wait"),
    [
        ("per_second", timedelta(seconds=1)),
        ("per_minute", timedelta(minutes=1)),
        ("per_hour", timedelta(hours=1)),
        ("per_month", datetime(2026, 12, 1, tzinfo=UTC) - NOON),
    ],
)
def test_a_window_that_is_full_takes_no_more_until_the_next_begins(
    database: Database, limit: str, wait: timedelta
) -> None:
    books = Books(database, **{limit: 2})
    books.book(2)
    assert books.refusal().retry_after_seconds == wait.total_seconds()
    books.now += wait - timedelta(microseconds=1)
    books.refusal()
    books.now += timedelta(microseconds=1)
    books.book()


def test_what_is_refused_uses_no_place_in_any_window(database: Database) -> None:
    books = Books(database, per_second=1, per_hour=10, per_month=10)
    books.book()
    books.refusal()
    assert {span: books.used(span) for span in (Span.SECOND, Span.HOUR, Span.MONTH)} == dict.fromkeys(
        (Span.SECOND, Span.HOUR, Span.MONTH), 1
    )


def test_the_longest_wait_is_told_when_several_windows_are_full(database: Database) -> None:
    books = Books(database, per_second=1, per_hour=1)
    books.book()
    assert books.refusal().retry_after_seconds == 3600


def test_asking_leaves_its_reserve_to_fetching_and_sending(database: Database) -> None:
    books = Books(database, per_hour=10, reserve=0.3)
    books.book(7, asking=True)
    books.refusal(asking=True)
    books.book(3)
    books.refusal()


def test_asking_takes_no_more_than_a_days_share_of_the_month(database: Database) -> None:
    """The 21st of a month of thirty days: what is left is for ten days."""
    books = Books(database, per_month=100, reserve=0.0)
    books.book(10, asking=True)
    assert books.refusal(asking=True).retry_after_seconds == 12 * 3600
    # Others may, and what they take is missing on the days after.
    books.book(45)
    books.now += timedelta(days=1)
    books.book(5, asking=True)
    books.refusal(asking=True)
    # On the last day everything that is left may go.
    books.now = datetime(2026, 11, 30, 23, 0, tzinfo=UTC)
    books.book(40, asking=True)
    assert books.refusal(asking=True).retry_after_seconds == 3600
    assert books.used(Span.MONTH) == 100


@pytest.mark.parametrize(
    ("now", "begins_on", "begins_at", "ends_at"),
    [
        ((2026, 11, 21), 1, (2026, 11, 1), (2026, 12, 1)),
        ((2026, 11, 14), 15, (2026, 10, 15), (2026, 11, 15)),
        ((2026, 11, 15), 15, (2026, 11, 15), (2026, 12, 15)),
        ((2027, 1, 3), 28, (2026, 12, 28), (2027, 1, 28)),
        ((2027, 3, 1), 28, (2027, 2, 28), (2027, 3, 28)),
    ],
)
def test_a_month_begins_on_its_day(
    now: tuple[int, int, int],
    begins_on: int,
    begins_at: tuple[int, int, int],
    ends_at: tuple[int, int, int],
) -> None:
    limits = Limits(per_month=9, month_begins_on=begins_on)
    month = next(iter(windows_of(limits, datetime(*now, 15, 30, tzinfo=UTC))))
    assert (month.begins_at, month.ends_at) == (
        datetime(*begins_at, tzinfo=UTC),
        datetime(*ends_at, tzinfo=UTC),
    )


def test_processors_that_book_at_the_same_moment_never_take_more_than_there_is(database: Database) -> None:
    """Each with a connection of its own, as processes have; one place in each of many hours."""
    others = [Books(Database(database.url), per_hour=1, per_month=1000) for _ in range(4)]
    together, hours = threading.Barrier(len(others)), 15
    taken: list[datetime] = []

    def book(books: Books) -> None:
        for hour in range(hours):
            books.now = NOON + timedelta(hours=hour)
            together.wait(PATIENCE_SECONDS)
            try:
                books.book()
            except NotBookedError:
                continue
            taken.append(books.now)

    # The rows are there already, so that nobody has to wait for who makes them.
    for hour in range(hours):
        others[0].now = NOON + timedelta(hours=hour)
        with database.transaction() as connection:
            budget = others[0].budget
            budget.unbook(connection, budget.book(connection, others[0].now, asking=False))
    threads = [threading.Thread(target=book, args=(books,)) for books in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for books in others:
        books.database.close()
    assert sorted(taken) == [NOON + timedelta(hours=hour) for hour in range(hours)]
    assert Books(database).used(Span.HOUR) == hours


def test_what_is_long_over_is_forgotten_and_the_months_are_kept(database: Database) -> None:
    books = Books(database, per_second=9, per_hour=9, per_month=99)
    books.book(3)
    books.now += timedelta(days=40)
    books.book()
    with database.reading() as connection:
        rows = connection.execute(select(CallRow.span, CallRow.calls)).all()
    assert sorted(map(tuple, rows)) == [
        ("day", 1),
        ("day", 3),
        ("hour", 1),
        ("month", 1),
        ("month", 3),
        ("second", 1),
    ]


# The sender


class Wire:
    """Answers 200, or raises what it is told to."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.sent = 0

    async def send(self, method: str, url: str, **_options: Any) -> Answer:
        self.sent += 1
        if self.errors:
            raise self.errors.pop(0)
        return Answer(200, {})

    def stream(self, method: str, url: str, **_options: Any) -> NoReturn:
        raise AssertionError("nobody streams here")


def send(database: Database, wire: Wire, **limits: Any) -> Answer:
    sender = BookedSender(
        wire, Budget("account", Limits(**limits)), database=database, clock=FakeTime().clock(), asking=False
    )
    return asyncio.run(sender.send("GET", "https://x.test/", headers={}))


def test_a_call_is_booked_before_it_is_sent_and_stays_booked_when_it_dies(database: Database) -> None:
    wire = Wire(NoAnswerError("cut"), RuntimeError("died"))
    for error in (NoAnswerError, RuntimeError):
        with pytest.raises(error):
            send(database, wire, per_hour=3)
    send(database, wire, per_hour=3)
    with pytest.raises(NotBookedError) as refused:
        send(database, wire, per_hour=3)
    assert isinstance(refused.value, NotSentError)
    assert wire.sent == 3


def test_a_call_that_never_left_gets_its_place_back(database: Database) -> None:
    wire = Wire(NotSentError("no route"))
    with pytest.raises(NotSentError):
        send(database, wire, per_hour=1)
    assert send(database, wire, per_hour=1).status == 200


def test_a_place_that_is_free_within_a_moment_is_waited_for(database: Database) -> None:
    time, wire = FakeTime(), Wire()
    clock = time.clock()

    async def scenario() -> None:
        sender = BookedSender(
            wire, Budget("account", Limits(per_second=1)), database=database, clock=clock, asking=False
        )
        time.instant = time.instant.replace(microsecond=990_000)
        await sender.send("GET", "https://x.test/", headers={})
        second = asyncio.create_task(sender.send("GET", "https://x.test/", headers={}))
        await asyncio.sleep(0)
        time.pass_seconds(1)
        await second

    asyncio.run(scenario())
    assert wire.sent == 2


# What it can carry


def in_books(database: Database, act: Callable[[Connection], Any]) -> Any:
    with database.transaction() as connection:
        return act(connection)


def test_figures_say_how_much_is_asked_and_how_much_can_be(database: Database) -> None:
    provider = AskedProvider(NAME, ProviderSettings())
    assert in_books(database, lambda connection: budget.figures(connection, provider, NOON)) is None
    provider.account = Limits(per_hour=80, per_month=300, reserve=0.2)
    expired = Ask("expired", expires_at=NOON - timedelta(days=1))
    asks = [*(Ask(f"s{number}", after_seconds=60) for number in range(32)), expired]
    in_books(database, lambda connection: polls.begin(connection, NAME, asks, NOON))
    in_books(
        database,
        lambda connection: Budget(NAME, provider.account or Limits()).book(connection, NOON, asking=True),
    )
    found = in_books(database, lambda connection: budget.figures(connection, provider, NOON))
    assert (found.open_subjects, found.wanted_a_day, found.possible_a_day) == (32, 32, 8)
    assert found.is_short
    assert found.every_seconds == 4 * 86_400
    left = [(item.span, item.left) for item in found.left]
    assert left == [(Span.MONTH, 299), (Span.HOUR, 79)]
    provider.account = Limits(per_hour=80)
    plenty = in_books(database, lambda connection: budget.figures(connection, provider, NOON))
    assert not plenty.is_short
    assert plenty.every_seconds == 86_400

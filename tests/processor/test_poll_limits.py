"""Asking an account with limits: one place a day for each subject, and no call too many."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from processor import polls
from processor.budget import Standing
from processor.poll import Poller
from shared.db.models import CallRow, PollRow
from shared.errors import NoAnswerError, NotSentError, OverQuotaError, PermanentError, TransientError
from shared.events import DocumentStatus
from shared.providers._base import Ask, Limits
from shared.writer import SpoolWriter
from tests.processor.asking import A_DAY_SECONDS, NAME, Office, open_office
from tests.processor.conftest import Workshop


@pytest.fixture
def office(workshop: Workshop) -> Iterator[Office]:
    """Five calls an hour, of which one is kept for others."""
    with open_office(workshop) as made:
        made.provider.account = Limits(per_hour=5, reserve=0.2)
        yield made


def calls(office: Office) -> int:
    with office.workshop.database.reading() as connection:
        return sum(connection.scalars(select(CallRow.calls)))


def next_in_seconds(office: Office, subject: str = "s1") -> float:
    next_at = office.row(subject)["next_at"]
    return float((next_at - office.workshop.clock.now()).total_seconds())


@pytest.mark.parametrize(
    "error", [TransientError("503"), NoAnswerError("cut"), PermanentError("422"), ValueError("no JSON")]
)
def test_a_failed_question_has_used_its_place_of_the_day(office: Office, error: Exception) -> None:
    office.begin(Ask("s1"))
    office.desk.answers = {"s1": error}
    assert office.ask() == ["s1"]
    assert next_in_seconds(office) == A_DAY_SECONDS
    assert calls(office) == 1


def test_a_question_that_never_left_is_asked_again_soon_and_costs_no_call(office: Office) -> None:
    office.begin(Ask("s1"))
    office.desk.answers = {"s1": NotSentError("no route")}
    office.ask()
    assert 0 < next_in_seconds(office) < 60
    assert calls(office) == 0


def test_a_process_that_dies_over_a_question_has_used_its_place(office: Office) -> None:
    office.begin(Ask("s1"))

    over = threading.Event()
    office.desk.answers = {"s1": "PENDING"}

    async def cut_off() -> None:
        loop, asked = asyncio.get_running_loop(), asyncio.Event()

        def hang() -> None:
            loop.call_soon_threadsafe(asked.set)
            over.wait()

        office.desk.meanwhile = hang
        poller = office.poller()
        await poller.take()
        await asked.wait()
        await poller.drain(0)
        over.set()

    asyncio.run(cut_off())
    office.desk.meanwhile = lambda: None
    # As the next process starts.
    with office.workshop.database.transaction() as connection:
        office.poller().prepare(connection)
    assert office.ask() == []
    assert calls(office) == 1
    office.workshop.time.pass_seconds(A_DAY_SECONDS)
    assert office.ask() == ["s1"]


def test_used_up_calls_are_waited_for_and_no_subject_loses_its_place(office: Office) -> None:
    office.begin(*(Ask(f"s{number}") for number in range(9)))
    office.desk.answers = {f"s{number}": "PENDING" for number in range(9)}
    poller = office.poller()
    assert len(office.ask(poller)) == 4
    assert office.ask(poller) == []
    office.workshop.time.pass_seconds(1799)
    assert office.ask(poller) == []
    left = [number for number in range(9) if f"s{number}" not in office.desk.asked]
    assert all(next_in_seconds(office, f"s{number}") < 0 for number in left)
    office.workshop.time.pass_seconds(1)
    assert len(office.ask(poller)) == 4
    office.workshop.time.pass_seconds(3600)
    office.ask(poller)
    assert sorted(office.desk.asked) == sorted(office.desk.answers), "each once"


def test_calls_stay_counted_over_a_restart(office: Office) -> None:
    office.begin(*(Ask(f"s{number}") for number in range(9)))
    office.desk.answers = {f"s{number}": "PENDING" for number in range(9)}
    assert [len(office.ask()), len(office.ask())] == [4, 0]


def test_when_the_provider_says_that_calls_are_used_up_the_day_is_not_lost(office: Office) -> None:
    office.begin(Ask("s1"), Ask("s2"))
    office.desk.answers = dict.fromkeys(("s1", "s2"), OverQuotaError("429", retry_after_seconds=700))
    poller = office.poller()
    assert len(office.ask(poller)) == 2
    assert office.row("s1")["failures"] == 0
    office.workshop.time.pass_seconds(699)
    assert office.ask(poller) == []
    office.desk.answers = dict.fromkeys(("s1", "s2"), "PENDING")
    office.workshop.time.pass_seconds(1)
    assert len(office.ask(poller)) == 2


def test_more_subjects_than_the_calls_can_carry_are_asked_more_seldom_and_all_of_them(office: Office) -> None:
    office.provider.account = Limits(per_month=30, reserve=0.0)
    office.begin(*(Ask(f"s{number}") for number in range(4)))
    office.desk.answers = {f"s{number}": "PENDING" for number in range(4)}
    poller = office.poller()
    for _ in range(13):
        office.ask(poller)
        office.workshop.time.pass_seconds(A_DAY_SECONDS)
    # Three or four times as often as a call a day allows would not do: every fourth day is each one's.
    counts = {subject: office.desk.asked.count(subject) for subject in office.desk.answers}
    assert max(counts.values()) - min(counts.values()) <= 1, counts
    assert sum(counts.values()) <= 14


def test_a_wish_for_later_that_comes_meanwhile_brings_no_second_question_today(office: Office) -> None:
    """As the word of a resending does."""
    office.begin(Ask("s1"))
    office.desk.answers = {"s1": "SIGNED"}
    office.desk.meanwhile = lambda: office.begin(Ask("s1", after_seconds=A_DAY_SECONDS))
    assert office.ask() == ["s1"]
    assert 0 < next_in_seconds(office) <= A_DAY_SECONDS
    assert office.ask() == []


def test_what_was_said_is_kept_until_the_spool_is_back_rather_than_asked_for_again(office: Office) -> None:
    office.begin(Ask("s1"))
    office.desk.answers = {"s1": "SIGNED"}
    office.writer.close()

    async def scenario() -> None:
        poller = office.poller()
        await poller.take()
        await asyncio.sleep(0.05)
        poller._writer = SpoolWriter(office.workshop.spool)
        poller._writer.start()
        await poller.drain(10)
        poller._writer.close()

    asyncio.run(scenario())
    assert office.desk.asked == ["s1"]
    assert [entry.name.partition("_")[0] for entry in office.spooled()] == ["s1"]


def test_two_processors_never_ask_the_same_thing_twice(office: Office) -> None:
    """Both on one database, at the same moment, again and again."""
    office.provider.account = Limits(per_hour=1000)
    subjects = [f"s{number}" for number in range(24)]
    office.begin(*map(Ask, subjects))
    office.desk.answers = dict.fromkeys(subjects, "PENDING")

    def work(poller: Poller) -> None:
        async def rounds() -> None:
            while await poller.take():
                await poller.drain(10)

        asyncio.run(rounds())

    pollers = [office.poller(), office.poller()]
    pollers[1]._spool_id = "another node"
    threads = [threading.Thread(target=work, args=(poller,)) for poller in pollers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(office.desk.asked) == sorted(subjects)
    assert calls(office) == len(subjects)


def test_a_person_may_have_it_asked_at_once_whatever_the_day_says(office: Office) -> None:
    office.begin(Ask("s1"))
    office.desk.answers = {"s1": "PENDING"}
    office.ask()
    office.begin(Ask("s1"))
    assert office.ask() == ["s1"]


def test_a_lease_that_is_given_back_keeps_a_nearer_wish(office: Office) -> None:
    office.begin(Ask("s1"))
    now = office.workshop.clock.now()
    with office.workshop.database.transaction() as connection:
        [leased] = polls.lease(
            connection, NAME, 9, leased_by="x", now=now, lease_seconds=60, place_seconds=A_DAY_SECONDS
        )
        connection.execute(update(PollRow).values(next_at=now - timedelta(seconds=9)))
        polls.give_back(connection, leased)
    assert next_in_seconds(office) == -9


@pytest.mark.parametrize(
    ("word", "status"),
    [("CANCELLED", DocumentStatus.CANCELLED), ("UNHEARD OF", DocumentStatus.PENDING)],
)
def test_what_is_asked_no_more_is_not_taken_up_again_by_its_own_last_word(
    office: Office, word: str, status: DocumentStatus
) -> None:
    office.provider.about_documents = True
    office.begin(Ask("s1"))
    office.desk.answers = {"s1": word}
    office.ask()
    office.record()
    assert office.workshop.show("s1", NAME)["status"] == status
    assert office.row("s1")["next_at"] is None


def test_the_figures_of_the_budget_are_those_of_the_present_window(office: Office) -> None:
    """Without a limit that is known there are none."""
    office.begin(*(Ask(f"s{number}") for number in range(48)))
    office.desk.answers = {f"s{number}": "PENDING" for number in range(48)}
    poller = office.poller()
    office.ask(poller)
    with office.workshop.database.reading() as connection:
        # Each is wanted once a day, so two an hour.
        assert poller.standing(connection) == Standing(needed=2, budget=5, spent=4)
        office.provider.account = Limits()
        assert poller.standing(connection) == Standing(needed=48, budget=None, spent=0)
        office.provider.account = None
        assert poller.standing(connection) is None

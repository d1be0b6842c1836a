"""Asking a provider: what it says is spooled first, its times live in the database, and nobody asks twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
import structlog
from sqlalchemy import select, update

from processor import polls
from shared.db.models import OutboxRow, PollRow, Task
from shared.errors import AccessError, PermanentError, TransientError
from shared.events import DocumentStatus, Origin, Trust
from shared.making import make_entry
from shared.providers._base import Ask, Head
from shared.record import parse_record
from shared.spool import Folder
from shared.writer import SpoolWriter
from tests.processor.asking import A_DAY_SECONDS, NAME, Office, open_office
from tests.processor.conftest import Workshop


@pytest.fixture
def office(workshop: Workshop) -> Iterator[Office]:
    with open_office(workshop) as made:
        yield made


def test_what_it_says_is_spooled_byte_for_byte_and_takes_the_one_road(office: Office) -> None:
    office.begin(Ask("s1"))
    office.desk.answers = {"s1": "SIGNED"}
    office.ask()
    [entry] = office.spooled()
    record = parse_record(office.workshop.spool.read(Folder.SPOOL, entry))
    assert record.receipt is not None
    assert (record.receipt.origin, record.receipt.trust) == (Origin.POLL, Trust.PROVEN)
    assert (record.document_id, record.action) == ("s1", "SIGNED")
    assert record.payload == b'{"status": "SIGNED"}'
    office.record()
    shown = office.workshop.show("s1", NAME)
    assert shown["status"] == "completed"
    assert [event["origin"] for event in shown["events"]] == ["poll"]


def test_it_is_asked_again_when_it_said_and_never_after_its_end_also_by_a_new_process(office: Office) -> None:
    office.begin(Ask("s1"))
    office.desk.answers = {"s1": "PENDING"}
    assert office.ask() == ["s1"]
    assert office.ask() == []
    office.workshop.time.pass_seconds(A_DAY_SECONDS - 1)
    assert office.ask() == []
    office.workshop.time.pass_seconds(1)
    office.desk.answers = {"s1": "SIGNED"}
    assert office.ask() == ["s1"]
    office.workshop.time.pass_seconds(10 * A_DAY_SECONDS)
    assert office.ask() == []
    assert office.row("s1")["next_at"] is None


def test_what_cannot_be_spooled_is_asked_again_and_not_taken_for_said(office: Office) -> None:
    office.begin(Ask("s1"))
    office.desk.answers = {"s1": "SIGNED"}
    office.writer.close()
    assert office.ask() == ["s1"]
    assert office.spooled() == []
    office.writer = SpoolWriter(office.workshop.spool)
    office.writer.start()
    assert office.ask() == ["s1"]
    assert len(office.spooled()) == 1


def test_said_twice_it_counts_once(office: Office) -> None:
    """The process died between spooling the answer and noting it."""
    office.begin(Ask("s1"))
    office.desk.answers = {"s1": "SIGNED"}
    office.ask()
    with office.workshop.database.transaction() as connection:
        connection.execute(update(PollRow).values(next_at=office.workshop.clock.now(), memory={}))
    office.ask()
    office.record()
    outcomes = [event["outcome"] for event in office.workshop.show("s1", NAME)["events"]]
    assert outcomes == ["applied", "repeated"]


def test_a_browser_that_returns_has_it_asked_at_once_and_claims_nothing(office: Office) -> None:
    office.begin(Ask("s1", {"from": "sending"}))
    office.desk.answers = {"s1": "PENDING"}
    office.ask()
    entry = office.come_back("s1")
    office.record()
    assert office.workshop.folder_of(entry) is Folder.DONE
    with office.workshop.database.transaction() as connection:
        assert connection.scalar(select(PollRow.memory)) == {
            "from": "sending",
            "status": "PENDING",
            "token": "t",
        }
    assert office.ask() == ["s1"]


def test_a_wish_that_comes_while_it_is_being_asked_is_not_forgotten(office: Office) -> None:
    office.begin(Ask("s1"))
    office.desk.answers = {"s1": "PENDING"}
    office.desk.meanwhile = lambda: office.begin(Ask("s1", {"token": "new"}))
    assert office.ask() == ["s1"]
    office.desk.meanwhile = lambda: None
    assert office.ask() == ["s1"]
    assert office.ask() == []
    with office.workshop.database.transaction() as connection:
        assert connection.scalar(select(PollRow.memory)) == {"token": "new", "status": "PENDING"}


def test_nobody_asks_about_what_another_asks_about(office: Office) -> None:
    office.begin(Ask("s1"))
    office.desk.answers = {"s1": "PENDING"}
    second: list[list[str]] = []

    def look() -> None:
        office.desk.meanwhile = lambda: None
        with office.workshop.database.transaction() as connection:
            now = office.workshop.clock.now()
            taken = polls.lease(connection, NAME, 9, leased_by="other", now=now, lease_seconds=60)
            second.append([leased.view.subject for leased in taken])

    office.desk.meanwhile = look
    assert office.ask() == ["s1"]
    assert second == [[]]


def test_a_lease_that_ran_out_is_taken_over_and_the_first_changes_nothing_any_more(office: Office) -> None:
    office.begin(Ask("s1"))
    office.desk.answers = {"s1": "PENDING"}

    def take_over() -> None:
        with office.workshop.database.transaction() as connection:
            later = office.workshop.clock.now() + timedelta(seconds=61)
            [taken] = polls.lease(connection, NAME, 9, leased_by="other", now=later, lease_seconds=60)
            assert taken.view.subject == "s1"

    office.desk.meanwhile = take_over
    office.ask()
    assert office.row("s1")["asked_at"] is None
    with office.workshop.database.transaction() as connection:
        assert connection.scalar(select(PollRow.leased_by)) == "other"


def test_what_fails_waits_longer_each_time_and_as_long_as_was_asked_for(office: Office) -> None:
    office.begin(Ask("s1"))
    office.desk.answers = {"s1": TransientError("busy")}
    waits = []
    for _ in range(3):
        # Each time by a new process, whose breaker knows of nothing.
        assert office.ask() == ["s1"]
        waits.append((office.row("s1")["next_at"] - office.workshop.clock.now()).total_seconds())
        office.workshop.time.pass_seconds(waits[-1])
    assert waits[0] < waits[1] < waits[2]
    office.desk.answers = {"s1": TransientError("busy", retry_after_seconds=7777)}
    office.ask()
    row = office.row("s1")
    assert (row["next_at"] - office.workshop.clock.now()).total_seconds() == 7777
    assert (row["failures"], row["note"]) == (4, "busy")


def test_a_refused_key_is_one_alarm_and_nothing_is_asked_but_a_trial(office: Office) -> None:
    office.begin(*(Ask(f"s{number}") for number in range(9)))
    office.desk.answers = {f"s{number}": AccessError("401: set token") for number in range(9)}
    poller = office.poller()
    with structlog.testing.capture_logs() as lines:
        first = len(office.ask(poller))
        rounds = []
        for _ in range(4):
            rounds.append(len(office.ask(poller)))
            office.workshop.time.pass_seconds(30)
    assert first == 4
    # A trial after thirty seconds, the next after twice as long.
    assert rounds == [0, 1, 0, 1]
    assert [line["event"] for line in lines].count("provider.refuses_us") == 1
    assert all(office.row(f"s{number}")["failures"] == 0 for number in range(9))
    office.desk.answers = dict.fromkeys(office.desk.answers, "PENDING")
    office.workshop.time.pass_seconds(300)
    with structlog.testing.capture_logs() as lines:
        assert len(office.ask(poller)) == 1
        assert len(office.ask(poller)) == 4
    assert [line["event"] for line in lines].count("provider.accepts_us") == 1


def test_what_expires_soonest_is_asked_first(office: Office) -> None:
    now = office.workshop.clock.now()
    office.begin(
        Ask("never"),
        *(Ask(f"in {days} days", expires_at=now + timedelta(days=days)) for days in (9, 2, 30, 4)),
    )
    with office.workshop.database.transaction() as connection:
        taken = polls.lease(connection, NAME, 5, leased_by="x", now=now, lease_seconds=60)
    subjects = [leased.view.subject for leased in taken]
    assert subjects == ["in 2 days", "in 4 days", "in 9 days", "in 30 days", "never"]


def test_an_unknown_error_in_one_answer_harms_no_other(office: Office) -> None:
    office.begin(Ask("bad"), Ask("good"))
    office.desk.answers = {"bad": "PENDING", "good": "SIGNED"}
    office.desk.answers["bad"] = ValueError("no JSON")
    office.ask()
    assert [entry.name.partition("_")[0] for entry in office.spooled()] == ["good"]
    assert office.row("bad")["failures"] == 1
    assert "unexpected" in office.row("bad")["note"]


def test_documents_that_are_not_over_are_asked_about_from_the_start_on(office: Office) -> None:
    office.provider.about_documents = True
    for document_id, action in (("open", "odd"), ("over", "SIGNED")):
        made = make_entry(
            office.provider,
            Head(document_id, action),
            json.dumps({"id": document_id, "status": action}).encode(),
            received_at=office.workshop.clock.local(),
            origin=Origin.CALLBACK,
            trust=Trust.OPEN,
        )
        office.workshop.lay(made.entry, made.content)
    office.provider.about_documents = False
    office.record()
    office.provider.about_documents = True
    with office.workshop.database.transaction() as connection:
        office.poller().prepare(connection)
        assert [row["subject"] for row in polls.listing(connection, NAME, 9)] == ["open"]


def test_a_document_that_is_told_of_later_is_learned_and_what_is_known_stays(office: Office) -> None:
    """Two documents of one session; of the first something was said before the second is registered."""
    with office.workshop.database.transaction() as connection:
        now = office.workshop.clock.now()
        polls.keep(connection, NAME, [Ask("s1", {"first": ""})], now)
        connection.execute(update(PollRow).values(memory={"first": "said"}, next_at=None))
        polls.keep(connection, NAME, [Ask("s1", {"first": "", "second": ""})], now)
        assert connection.scalar(select(PollRow.memory)) == {"first": "said", "second": ""}
        [leased] = polls.lease(connection, NAME, 9, leased_by="x", now=now, lease_seconds=60)
    assert leased.view.begun_at == now


def test_strangers_cannot_fill_the_table_and_what_is_known_is_asked_all_the_same(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polls, "_MOST_OPEN_WISHES", 3)
    office.begin(Ask("known"))
    office.desk.answers = {"known": "PENDING"}
    office.ask()
    for subject in ("a", "b", "c", "d", "known"):
        office.come_back(subject)
    office.record()
    with office.workshop.database.transaction() as connection:
        rows = polls.listing(connection, NAME, 9)
    assert {row["subject"] for row in rows} == {"a", "b", "c", "known"}
    assert office.row("known")["next_at"] <= office.workshop.clock.now()


def test_each_telling_is_confirmed_once_it_is_recorded(office: Office) -> None:
    office.begin(Ask("s1"))
    office.desk.answers = {"s1": "CANCELLED"}
    office.ask()
    office.record()
    with office.workshop.database.transaction() as connection:
        connection.execute(update(PollRow).values(next_at=office.workshop.clock.now(), memory={}))
    office.ask()
    office.record()
    with office.workshop.database.transaction() as connection:
        rows = connection.execute(select(OutboxRow.task, OutboxRow.details, OutboxRow.status)).all()
    assert [tuple(row) for row in rows] == [
        (Task.CONFIRM, {"word": "CANCELLED"}, DocumentStatus.CANCELLED)
    ] * 2


def test_whoever_watches_hears_of_each_answer_and_of_no_failure(office: Office) -> None:
    """An answer about one subject that cannot be understood is an answer all the same."""
    told: list[int] = []
    poller = office.poller(on_answer=lambda: told.append(1))
    assert (poller.name, poller.provider_name) == (f"poll:{NAME}", NAME)
    office.begin(Ask("s1"))
    office.desk.answers = {"s1": TransientError("busy")}
    office.ask(poller)
    assert told == []
    office.workshop.time.pass_seconds(A_DAY_SECONDS)
    office.desk.answers = {"s1": PermanentError("gone")}
    office.ask(poller)
    assert len(told) == 1
    assert not poller.is_left_alone
    office.workshop.time.pass_seconds(A_DAY_SECONDS)
    office.desk.answers = {"s1": AccessError("who are you?")}
    office.ask(poller)
    assert len(told) == 1
    assert poller.is_left_alone

"""A document that a callback ends is asked about no more, and again once it is taken back into signing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import update

from processor import polls
from processor.pipeline import Pipeline, Tally
from processor.reading import Reader
from shared.db.models import PollRow
from shared.errors import OverQuotaError, TransientError
from shared.events import Origin, Trust
from shared.making import make_entry
from shared.providers._asking import WISH
from shared.providers._base import Ask, Head, Limits
from shared.spool import Entry
from tests.processor.asking import A_DAY_SECONDS, Office, open_office
from tests.processor.conftest import Workshop
from tests.providers.conftest import make_callback

ARQSIGN = "arqsign"
REFUSED, EXPIRED, RESENT, COMPLETED, OPENED = 4, 6, 7, 8, 1
"""Numbers of ArqSign's events."""


# Any provider that is asked


@pytest.fixture
def office(workshop: Workshop) -> Iterator[Office]:
    """Each subject is wanted once a day; the account carries one question an hour."""
    with open_office(workshop) as made:
        made.provider.account = Limits(per_hour=1, reserve=0.0)
        made.provider.about_documents = True
        yield made


def call_back(office: Office, subject: str, word: str) -> None:
    """A callback comes and is recorded."""
    lay(office.workshop, office.provider, Head(subject, word), json.dumps({"status": word}).encode())
    office.record()


def lay(
    workshop: Workshop, provider: Any, head: Head, payload: bytes, origin: Origin = Origin.CALLBACK
) -> Entry:
    made = make_entry(
        provider, head, payload, received_at=workshop.clock.local(), origin=origin, trust=Trust.PROVEN
    )
    return workshop.lay(made.entry, made.content)


def calls_a_day(office: Office) -> float:
    """What asking takes by the plan."""
    with office.workshop.database.reading() as connection:
        standing = office.poller().standing(connection)
    assert standing is not None
    return standing.needed * 24


def test_no_call_is_planned_for_it_any_more(office: Office) -> None:
    """It would have been due in two days only, since more is to be asked than the account carries."""
    office.begin(*(Ask(f"s{number}", after_seconds=2 * A_DAY_SECONDS) for number in range(48)))
    assert calls_a_day(office) == 48
    for number in range(12):
        call_back(office, f"s{number}", "SIGNED")
    assert calls_a_day(office) == 36
    row = office.row("s0")
    assert (row["next_at"], row["note"]) == (None, "over: completed")
    office.workshop.time.pass_seconds(2 * A_DAY_SECONDS)
    office.desk.answers = {f"s{number}": "PENDING" for number in range(12, 48)}
    (asked,) = office.ask()
    assert asked in office.desk.answers


@pytest.mark.parametrize(
    "answer",
    ["PENDING", TransientError("busy"), OverQuotaError("enough"), ValueError("no JSON")],
    ids=["answered", "failed", "given back", "not understood"],
)
def test_what_is_being_asked_about_just_then_is_not_asked_again(
    office: Office, answer: str | Exception
) -> None:
    office.begin(Ask("s1"))
    office.desk.answers = {"s1": answer}
    office.desk.meanwhile = lambda: call_back(office, "s1", "CANCELLED")
    assert office.ask() == ["s1"]
    assert office.row("s1")["next_at"] is None


def test_a_wish_that_was_told_before_the_end_came_meanwhile_ends_too(office: Office) -> None:
    def meanwhile() -> None:
        office.begin(Ask("s1"))
        call_back(office, "s1", "CANCELLED")

    office.begin(Ask("s1"))
    office.desk.answers = {"s1": "PENDING"}
    office.desk.meanwhile = meanwhile
    assert office.ask() == ["s1"]
    assert office.row("s1")["next_at"] is None


def test_what_a_person_wants_asked_is_asked_all_the_same(office: Office) -> None:
    office.begin(Ask("s1", {WISH: "hand"}))
    call_back(office, "s1", "SIGNED")
    office.desk.answers = {"s1": "SIGNED"}
    assert office.ask() == ["s1"]


def test_other_news_leave_its_time_as_it_is_and_late_ones_begin_nothing(office: Office) -> None:
    office.begin(Ask("s1", after_seconds=9))
    due_at = office.row("s1")["next_at"]
    call_back(office, "s1", "UNHEARD OF")
    assert office.row("s1")["next_at"] == due_at
    call_back(office, "s1", "CANCELLED")
    call_back(office, "s1", "UNHEARD OF")
    assert office.row("s1")["next_at"] is None


def test_one_document_of_a_batch_says_nothing_of_another(office: Office) -> None:
    office.begin(Ask("s1"), Ask("s2"))
    for subject, word in (("s1", "CANCELLED"), ("s2", "UNHEARD OF")):
        lay(office.workshop, office.provider, Head(subject, word), json.dumps({"status": word}).encode())
    office.record()
    assert office.row("s1")["next_at"] is None
    assert office.row("s2")["next_at"] is not None


# ArqSign, which may take a document back into signing


@pytest.fixture
def arqsign(workshop: Workshop) -> Any:
    return workshop.provider(ARQSIGN, poll=True, plan="small", app_key="k", subscription_key="s")


@pytest.fixture
def pipeline(workshop: Workshop, arqsign: Any) -> Pipeline:
    return workshop.pipeline(reader=Reader(workshop.spool, {ARQSIGN: arqsign}))


def put(workshop: Workshop, provider: Any, number: int, minute: int) -> Entry:
    said = {"evento": "?", "idEvento": number, "idProcesso": "p"}
    payload = json.dumps({**said, "dataHoraAtual": f"21/11/2025 13:{minute:02d}:00"}).encode()
    return lay(workshop, provider, provider.callback_id(make_callback(payload)), payload)


def next_at(workshop: Workshop) -> datetime | None:
    with workshop.database.reading() as connection:
        [row] = polls.listing(connection, ARQSIGN, 9)
        due_at: datetime | None = row["next_at"]
        return due_at


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "one by one"])
@pytest.mark.parametrize(
    ("story", "status", "is_asked"),
    [
        ([(OPENED, 1)], "pending", True),
        ([(OPENED, 1), (EXPIRED, 2)], "expired", True),
        ([(OPENED, 1), (REFUSED, 2)], "declined", False),
        ([(OPENED, 1), (REFUSED, 2), (RESENT, 3)], "pending", True),
        ([(OPENED, 1), (REFUSED, 2), (RESENT, 3), (REFUSED, 4)], "declined", False),
        # The word of the resending comes late, in order of time and after the end of all.
        ([(OPENED, 1), (REFUSED, 4), (RESENT, 3)], "declined", False),
        ([(OPENED, 1), (COMPLETED, 2), (RESENT, 3)], "completed", False),
    ],
    ids=["opened", "expired", "refused", "resent", "refused again", "resent before", "resent when completed"],
)
def test_it_is_asked_about_until_its_end_and_again_from_a_resending_on(
    workshop: Workshop,
    arqsign: Any,
    pipeline: Pipeline,
    story: list[tuple[int, int]],
    status: str,
    is_asked: bool,
    together: bool,
) -> None:
    entries: list[Entry] = []
    for number, minute in story:
        entries.append(put(workshop, arqsign, number, minute))
        if not together:
            pipeline._handle([entries.pop()], Tally())
    if together:
        pipeline._handle(entries, Tally())
    assert workshop.show("p", ARQSIGN)["status"] == status
    assert (next_at(workshop) is not None) is is_asked


def test_a_resending_is_asked_about_from_the_next_interval_on(
    workshop: Workshop, arqsign: Any, pipeline: Pipeline
) -> None:
    for number, minute in ((OPENED, 1), (REFUSED, 2), (RESENT, 3)):
        pipeline._handle([put(workshop, arqsign, number, minute)], Tally())
    due_at = next_at(workshop)
    assert due_at is not None
    assert (due_at - workshop.clock.now()).total_seconds() == A_DAY_SECONDS


def test_a_resending_that_asking_found_goes_on_though_the_end_was_recorded_between(
    workshop: Workshop, arqsign: Any, pipeline: Pipeline
) -> None:
    """Asked, refused by a callback, noted as asked, and only then is the answer recorded."""
    pipeline._handle([put(workshop, arqsign, OPENED, 1)], Tally())
    pipeline._handle([put(workshop, arqsign, REFUSED, 2)], Tally())
    assert next_at(workshop) is None
    answer = b'{"status": "Em processo", "dataHoraAtual": "21/11/2025 13:05:00"}'
    head = Head("p", "dataReenvio")
    pipeline._handle([lay(workshop, arqsign, head, answer, Origin.POLL)], Tally())
    assert workshop.show("p", ARQSIGN)["status"] == "pending"
    assert next_at(workshop) is not None


def test_a_question_that_is_due_already_is_not_made_for_a_document_that_is_over(
    workshop: Workshop, arqsign: Any, pipeline: Pipeline
) -> None:
    pipeline._handle([put(workshop, arqsign, OPENED, 1)], Tally())
    with workshop.database.transaction() as connection:
        connection.execute(update(PollRow).values(next_at=datetime(2020, 1, 1, tzinfo=UTC)))
    pipeline._handle([put(workshop, arqsign, REFUSED, 2)], Tally())
    with workshop.database.transaction() as connection:
        now = workshop.clock.now()
        assert polls.lease(connection, ARQSIGN, 9, leased_by="x", now=now, lease_seconds=60) == []
        assert polls.count_open(connection, ARQSIGN, now) == 0

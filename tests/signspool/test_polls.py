"""What providers are asked about, by command: listed, and asked at once; and what `check` says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import URL, Connection, select, update

from processor import polls
from processor.access import REFUSED
from shared.clock import utc_now
from shared.db.models import PollRow
from shared.db.session import Database
from shared.providers._base import Ask
from tests.signspool.conftest import MakePlace, Place

POLLED = """
[providers.arqsign]
webhooks = false
poll = true
plan = "small"
app_key = "app-k3y"
"""


@pytest.fixture
def polled(make_place: MakePlace) -> Place:
    """An installation with an ArqSign that is polled, and with two processes."""
    place = make_place(POLLED)
    for name in ("p1", "p2"):
        assert place.here("documents", "register", "arqsign", name).code == 0
    return place


@contextmanager
def tables(place: Place) -> Iterator[Connection]:
    database = Database(URL.create("sqlite", database=str(place.spool.root / "signspool.db")))
    with database.transaction() as connection:
        yield connection
    database.close()


def next_of(place: Place, subject: str) -> datetime | None:
    with tables(place) as connection:
        return connection.scalar(select(PollRow.next_at).where(PollRow.subject == subject))


def test_what_is_asked_about_is_listed_the_next_one_first(polled: Place) -> None:
    with tables(polled) as connection:
        soon = utc_now() + timedelta(seconds=1)
        connection.execute(
            update(PollRow).where(PollRow.subject == "p2").values(next_at=soon, note="Em processo")
        )
    rows = polled.here("polls", "ls", "--json").json
    assert [(row["subject"], row["note"]) for row in rows] == [("p2", "Em processo"), ("p1", "")]
    assert set(rows[0]) == {
        "provider",
        "subject",
        "next_at",
        "asked_at",
        "expires_at",
        "failures",
        "note",
    }
    table = polled.here("polls", "ls")
    assert (table.code, "Em processo" in table.out) == (0, True)
    assert polled.here("polls", "ls", "--json", "--provider", "ssign").json == []
    assert len(polled.here("polls", "ls", "--json", "--limit", "1").json) == 1


def test_a_process_is_asked_about_at_once_on_request(polled: Place) -> None:
    said = polled.here("polls", "ask", "arqsign", "p1", "--json")
    assert (said.code, said.json["due"]) == (0, "now")
    next_at = next_of(polled, "p1")
    assert next_at is not None
    assert next_at <= utc_now()
    with tables(polled) as connection:
        assert connection.scalar(select(PollRow.memory).where(PollRow.subject == "p1")) == {"wish": "hand"}


def test_what_was_asked_no_more_is_taken_up_too(polled: Place) -> None:
    with tables(polled) as connection:
        connection.execute(update(PollRow).values(next_at=None))
    assert polled.here("polls", "ask", "arqsign", "p1").code == 0
    assert next_of(polled, "p1") is not None
    assert next_of(polled, "p2") is None


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("arqsign", "unknown"), "signspool documents register"),
        (("ssign", "p1"), "cannot be asked"),
        (("nobody", "p1"), "not configured"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_reason(
    polled: Place, arguments: tuple[str, str], complaint: str
) -> None:
    said = polled.here("polls", "ask", *arguments)
    assert said.code == 2
    assert complaint in said.err


def finding(place: Place, about: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    found = place.here("check", "--json").json
    [one] = [item for item in found if item["about"] == about and wanted(item)]
    chosen: dict[str, Any] = one
    return chosen


def test_check_says_whether_the_calls_of_the_account_suffice(polled: Place) -> None:
    fine = finding(polled, "calls of arqsign", lambda _: True)
    assert fine["level"] == "ok"
    assert "80 of 80 left this month" in fine["finding"]
    with tables(polled) as connection:
        polls.begin(connection, "arqsign", [Ask(f"s{number}") for number in range(10)], utc_now())
    short = finding(polled, "calls of arqsign", lambda _: True)
    assert short["level"] == "warn"
    assert "12 asked about" in short["finding"]
    assert "12.0 are wanted" in short["finding"]
    assert "every 5." in short["finding"] or "every 6." in short["finding"]


def test_check_fails_while_a_provider_refuses_our_key(polled: Place) -> None:
    with tables(polled) as connection:
        connection.execute(update(PollRow).values(note=f"{REFUSED}401"))
    refused = finding(polled, "provider arqsign", lambda item: "our key" in item["finding"])
    assert refused["level"] == "fail"
    assert "2 things" in refused["finding"]
    assert "[providers.arqsign]" in refused["what_to_do"]

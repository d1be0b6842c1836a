"""Who called back last, who leaves unanswered what it is asked, and how long each may."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import update

from processor import polls, silence
from processor.silence import last_callbacks, silence_limits, unanswered_since
from shared.db.models import EventRow, PollRow
from shared.providers._base import Ask
from shared.settings import Settings, build_providers
from tests.processor.conftest import Workshop

HOUR = timedelta(hours=1)


def calls(workshop: Workshop, since: datetime | None = None) -> dict[str, datetime]:
    long_ago = workshop.clock.now() - timedelta(days=300)
    with workshop.database.reading() as connection:
        return last_callbacks(connection, ("ssign", "certisign"), since=since or long_ago)


def heard(workshop: Workshop, document_id: int, provider: str = "ssign") -> datetime:
    """A callback now, recorded; returns its time."""
    field = "documentId" if provider == "certisign" else "envelopeId"
    workshop.put({field: document_id, "action": "PENDING"}, provider=provider)
    workshop.work()
    return workshop.clock.now()


def test_the_newest_callback_of_each_provider_is_found(workshop: Workshop) -> None:
    assert calls(workshop) == {}
    heard(workshop, 1)
    workshop.time.pass_seconds(60)
    newest = heard(workshop, 2)
    workshop.time.pass_seconds(60)
    assert calls(workshop) == {"ssign": newest}
    assert calls(workshop)["ssign"] != heard(workshop, 3, "certisign")
    assert calls(workshop).keys() == {"ssign", "certisign"}


def test_a_seldom_heard_provider_is_found_behind_many_events_of_others(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But no further back than is asked for."""
    monkeypatch.setattr(silence, "EVENTS_AT_ONCE", 3)
    long_ago = heard(workshop, 1, "certisign")
    for number in range(3):
        heard(workshop, 10 + number)
    workshop.time.pass_seconds(7200)
    for number in range(3):
        heard(workshop, 20 + number)
    assert calls(workshop)["certisign"] == long_ago
    assert calls(workshop, since=workshop.clock.now() - HOUR).keys() == {"ssign"}


@pytest.mark.parametrize(("origin", "counts"), [("hand", True), ("poll", False), ("return", False)])
def test_what_a_provider_did_not_send_by_itself_is_no_callback(
    workshop: Workshop, origin: str, counts: bool
) -> None:
    """An answer to a poll, or a browser, says nothing of whether its callbacks still come."""
    heard(workshop, 1)
    with workshop.database.transaction() as connection:
        connection.execute(update(EventRow).values(origin=origin))
    assert bool(calls(workshop)) is counts


def unanswered(workshop: Workshop) -> dict[str, datetime]:
    with workshop.database.reading() as connection:
        return unanswered_since(connection, workshop.clock.now())


def test_what_is_due_and_never_answered_counts_from_when_it_was_to_be_asked(workshop: Workshop) -> None:
    asked_at = workshop.clock.now()
    with workshop.database.transaction() as connection:
        polls.keep(connection, "one", [Ask("first")], asked_at)
        polls.keep(connection, "two", [Ask("later", after_seconds=86_400)], asked_at)
    workshop.time.pass_seconds(600)
    assert unanswered(workshop) == {"one": asked_at}, "of the other nothing is due"


def test_an_answer_about_anything_ends_the_silence(workshop: Workshop) -> None:
    with workshop.database.transaction() as connection:
        polls.keep(connection, "one", [Ask("first"), Ask("second")], workshop.clock.now())
    workshop.time.pass_seconds(600)
    answered_at = workshop.clock.now()
    next_at = answered_at + timedelta(days=1)
    with workshop.database.transaction() as connection:
        connection.execute(
            update(PollRow).where(PollRow.subject == "first").values(asked_at=answered_at, next_at=next_at)
        )
    workshop.time.pass_seconds(60)
    assert unanswered(workshop) == {"one": answered_at}
    with workshop.database.transaction() as connection:
        connection.execute(update(PollRow).values(asked_at=answered_at, next_at=next_at))
    assert unanswered(workshop) == {}


def test_what_fails_and_is_to_be_asked_again_later_is_unanswered(workshop: Workshop) -> None:
    """And what is asked no more is not."""
    begun_at = workshop.clock.now()
    with workshop.database.transaction() as connection:
        polls.keep(connection, "one", [Ask("first")], begun_at)
        connection.execute(update(PollRow).values(failures=3, next_at=begun_at + timedelta(days=1)))
    workshop.time.pass_seconds(600)
    assert unanswered(workshop) == {"one": begun_at}
    with workshop.database.transaction() as connection:
        connection.execute(update(PollRow).values(next_at=None))
    assert unanswered(workshop) == {}


def test_each_provider_has_the_limits_of_how_it_is_used() -> None:
    """One that never calls, one that is only asked by setting, one with a limit of its own, one with none."""
    settings = Settings.model_validate(
        {
            "check": {
                "silence": "5d",
                "poll_silence": "2d",
                "silence_by_provider": {"ssign": "1d", "restpki": 0},
            },
            "providers": {
                "ssign": {"secret": "x-1"},
                "certisign": {"secret": "x-2"},
                "restpki": {"secret": "x-3"},
                "arqsign": {
                    "webhooks": False,
                    "poll": True,
                    "plan": "small",
                    "app_key": "a",
                    "subscription_key": "s",
                },
                "posten": {},
            },
        }
    )
    day = 86_400.0
    assert silence_limits(settings.check, build_providers(settings).values()) == {
        ("ssign", "callbacks"): day,
        ("certisign", "callbacks"): 5 * day,
        ("arqsign", "polls"): 2 * day,
        ("posten", "polls"): 2 * day,
    }


def test_a_limit_for_a_provider_that_is_not_known_is_a_wrong_setting() -> None:
    with pytest.raises(
        ValueError, match=r"silence_by_provider under \[check\] names sign; known are: .*ssign"
    ):
        Settings.model_validate({"check": {"silence_by_provider": {"sign": "1d"}}})

"""`signspool check` against the limits of `[check]`: what is too old, unseen, silent, or tried in vain."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, create_engine, text

from shared.spool import MARKER, Folder
from tests.signspool.conftest import MakePlace, Place

HOUR_SECONDS = 3600.0
DAY_SECONDS = 24 * HOUR_SECONDS


def check(place: Place) -> tuple[int, dict[str, Any]]:
    """The exit code, and the findings by what they are about."""
    said = place.here("check", "--offline", "--json")
    return said.code, {finding["about"]: finding for finding in said.json}


def limit(place: Place, line: str) -> None:
    place.config.write_text(f"{place.config.read_text()}\n[check]\n{line}\n")


def by_hand(place: Place, folder: Folder, age_seconds: float) -> str:
    """An entry without a guid, whose file tells its age; returns its name."""
    name = f"{folder}-{age_seconds:.0f}.json"
    place.file(name, b"{}", folder, age_seconds=age_seconds)
    return name


@contextmanager
def tables(place: Place) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{place.spool.root}/signspool.db")
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def test_an_entry_that_waits_to_be_recorded_for_too_long_fails(place: Place) -> None:
    """The command that is named lists it; without a limit it is only counted."""
    by_hand(place, Folder.SPOOL, 300)
    assert check(place)[0] == 0
    name = by_hand(place, Folder.SPOOL, 7200)
    code, found = check(place)
    assert (code, found["oldest in spool"]["level"]) == (1, "fail")
    assert found["oldest in spool"]["finding"] == "an entry has waited there for 2h, longer than 10m"
    command = found["oldest in spool"]["what_to_do"].removeprefix("signspool ").split()
    assert [row["name"] for row in place.here(*command, "--json").json] == [name]
    assert found["entries"]["finding"].endswith("for 2h")
    limit(place, "spool_age = 0")
    code, found = check(place)
    assert (code, "oldest in spool" in found) == (0, False)


def test_what_is_owed_for_too_long_fails_until_a_person_knows(place: Place) -> None:
    """What comes later fails again, when it is too old in its turn."""
    by_hand(place, Folder.DEFERRED, 2 * DAY_SECONDS)
    code, found = check(place)
    assert (code, found["oldest in deferred"]["level"]) == (1, "fail")
    assert found["oldest in deferred"]["finding"].endswith("for 2d, longer than 1d")
    touch = found["oldest in deferred"]["what_to_do"].rpartition("touch ")[2]
    assert touch == f"{place.spool.root}/deferred/.seen"
    (place.spool.folder(Folder.DEFERRED) / ".seen").touch()
    assert check(place)[0] == 0
    seen_at = time.time() - 1.5 * DAY_SECONDS
    os.utime(touch, (seen_at, seen_at))
    by_hand(place, Folder.DEFERRED, 30 * HOUR_SECONDS)
    assert check(place)[1]["oldest in deferred"]["finding"].endswith("for 1d, longer than 1d")
    limit(place, "deferred_age = 0")
    assert check(place)[0] == 0


def test_quarantine_fails_until_it_was_seen_and_again_with_the_next(place: Place) -> None:
    place.spool.quarantine(place.callback("1"), Folder.SPOOL, {"reason": "x"})
    code, found = check(place)
    assert (code, found["quarantine"]["level"]) == (1, "fail")
    assert found["quarantine"]["finding"].startswith("1 entry waiting for a person, for ")
    look, _, touch = found["quarantine"]["what_to_do"].partition("; when that is known: touch ")
    assert touch == f"{place.spool.root}/quarantine/.seen"
    assert len(place.here(*look.removeprefix("signspool ").split(), "--json").json) == 1

    # As `touch` does it, but certainly later than the entry came, whatever the file system's clock.
    seen_at = time.time() + 1
    (place.spool.root / "quarantine" / ".seen").touch()
    os.utime(touch, (seen_at, seen_at))
    code, found = check(place)
    assert (code, found["quarantine"]["level"]) == (0, "warn")
    assert found["quarantine"]["finding"] == "1 entry waiting for a person, all of them known"

    os.utime(touch, (time.time() - 60, time.time() - 60))
    reason = next((place.spool.root / "quarantine").rglob("*.reason.json"))
    os.utime(reason, (time.time() - 600, time.time() - 600))
    place.spool.quarantine(place.callback("2"), Folder.SPOOL, {"reason": "x"})
    code, found = check(place)
    assert (code, found["quarantine"]["level"]) == (1, "fail")
    assert found["quarantine"]["finding"].startswith("2 entries waiting for a person, 1 of them new, for ")


def test_so_few_in_quarantine_as_are_allowed_warn(place: Place) -> None:
    place.spool.quarantine(place.callback("1"), Folder.SPOOL, {"reason": "x"})
    text = place.config.read_text()
    for number in (2, 0):
        place.config.write_text(text)
        limit(place, f"quarantined = {number}")
        code, found = check(place)
        assert (code, found["quarantine"]["level"]) == (0, "warn")


def made(place: Place, days: float) -> None:
    """Say that the spool was made so long ago."""
    at = time.time() - days * DAY_SECONDS
    os.utime(place.spool.root / MARKER, (at, at))


def test_a_provider_that_has_never_called_is_missed_after_its_time(place: Place) -> None:
    """Counted from when there was a spool; one that is seldom used gets a limit of its own, or none."""
    made(place, 29)
    code, found = check(place)
    assert (code, found["silence"]["finding"]) == (0, "nobody is missed yet")
    made(place, 31)
    code, found = check(place)
    assert (code, found["silence of ssign"]["level"]) == (1, "fail")
    assert found["silence of ssign"]["finding"] == "no callback in more than 30d"
    assert "silence_by_provider = { ssign = 0 }" in found["silence of ssign"]["what_to_do"]
    limit(place, 'silence_by_provider = { ssign = 0, certisign = "40d" }')
    code, found = check(place)
    assert (code, found["silence"]["level"]) == (0, "ok")


def test_a_provider_that_fell_silent_is_told_with_when_it_was_heard_last(place: Place) -> None:
    made(place, 90)
    for provider in ("ssign", "certisign"):
        place.callback(f"1-{provider}", provider=provider, action="PENDING")
    place.once()
    code, found = check(place)
    assert (code, found["silence"]["level"]) == (0, "ok")
    assert found["silence"]["finding"].startswith("last callbacks, ago: ")
    long_ago = datetime.now(UTC) - timedelta(days=31)
    with tables(place) as connection:
        connection.execute(
            text(
                "UPDATE events SET received_at = :at WHERE document_fk IN "
                "(SELECT id FROM documents WHERE provider = 'ssign')"
            ),
            {"at": long_ago.replace(tzinfo=None)},
        )
    code, found = check(place)
    assert code == 1
    assert found["silence of ssign"]["finding"] == "no callback for 31d, longer than 30d"
    assert "silence of certisign" not in found
    limit(place, "silence = 0")
    assert check(place)[0] == 0


def test_a_provider_that_leaves_polls_unanswered_fails_with_the_command_that_shows_them(
    make_place: MakePlace,
) -> None:
    """Whatever its callbacks do."""
    place = make_place('[providers.restpki]\nsecret = "provider-secret-5599"\n')
    since = datetime.now(UTC) - timedelta(days=3)
    with tables(place) as connection:
        connection.execute(
            text(
                "INSERT INTO polls (provider, key, subject, memory, next_at, wishes, failures, note, "
                "leased_by, created_at) VALUES ('restpki', 'a', 'a', '{}', :at, 0, 4, 'is away', '', :at)"
            ),
            {"at": since.replace(tzinfo=None)},
        )
    code, found = check(place)
    assert (code, found["silence of restpki"]["level"]) == (1, "fail")
    assert found["silence of restpki"]["finding"].endswith("asked for 3d, longer than 2d")
    command = found["silence of restpki"]["what_to_do"].partition(" says")[0].removeprefix("signspool ")
    assert [row["note"] for row in place.here(*command.split(), "--json").json] == ["is away"]
    limit(place, 'poll_silence = "4d"')
    assert check(place)[0] == 0


def test_what_is_tried_in_vain_for_too_long_fails_with_how_the_last_try_ended(place: Place) -> None:
    place.callback("1")
    place.once()
    long_ago = (datetime.now(UTC) - timedelta(hours=3)).replace(tzinfo=None)
    later = (datetime.now(UTC) + timedelta(hours=1)).replace(tzinfo=None)
    with tables(place) as connection:
        connection.execute(
            text(
                "UPDATE outbox SET state = 'due', attempts = 7, last_error = 'it answered 503', "
                "created_at = :at, next_attempt_at = :later"
            ),
            {"at": long_ago, "later": later},
        )
    code, found = check(place)
    assert code == 1
    told = found["owed to provider ssign"]
    assert told["finding"] == "tried in vain for 3h, longer than 2h; last: it answered 503"
    command = told["what_to_do"].partition(",")[0].removeprefix("signspool ").split()
    assert len(place.here(*command, "--json").json) == 1
    # What waits for calls of a used-up account was not tried, and says why it waits.
    with tables(place) as connection:
        connection.execute(text("UPDATE outbox SET attempts = 0, last_error = 'no calls are left'"))
    assert check(place)[0] == 0
    # Where our key is refused nobody is charged, and a person has to mend it.
    refused = "our key is not accepted: correct access_key"
    with tables(place) as connection:
        connection.execute(text("UPDATE outbox SET last_error = :reason"), {"reason": refused})
    code, found = check(place)
    assert (code, found["owed to provider ssign"]["finding"]) == (
        1,
        f"tried in vain for 3h, longer than 2h; last: {refused}",
    )
    with tables(place) as connection:
        connection.execute(text("UPDATE outbox SET last_error = '', next_attempt_at = :at"), {"at": long_ago})
    code, found = check(place)
    assert (code, found["owed to provider ssign"]["finding"]) == (
        1,
        "due for 3h and not tried, longer than 2h",
    )
    limit(place, "delivery_age = 0")
    assert check(place)[0] == 0

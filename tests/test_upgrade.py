"""A database that an old version filled is upgraded by the documented command, and all of it lives on."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL

from shared.db.session import SCHEMA
from shared.events import DocumentStatus
from shared.spool import Folder
from tests.nursery import Fault, Nursery
from tests.oldest import (
    DEADLINE_SECONDS,
    LONG_AGO,
    ODD_TEXT,
    OLDEST,
    REGISTERED,
    STATES,
    STRANGE,
    TASKS,
    OldInstallation,
    fill,
    make_oldest,
)


@contextmanager
def empty_database(kind: str, home: Path, request: pytest.FixtureRequest) -> Iterator[URL]:
    """A database without any table."""
    if kind == "sqlite":
        yield URL.create("sqlite", database=str(home / "signspool.db"))
        return
    server: URL = request.getfixturevalue("postgres_url")
    name = f"old_{uuid.uuid4().hex[:8]}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield server.set(database=name)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def old(request: pytest.FixtureRequest, tmp_path: Path, nursery: Nursery) -> Iterator[OldInstallation]:
    """A filled installation of schema 0001."""
    with empty_database(request.param, tmp_path, request) as url:
        make_oldest(url)
        made = OldInstallation(tmp_path, url, nursery)
        fill(made)
        yield made
        made.database.close()


def test_a_filled_database_of_the_first_version_lives_on(old: OldInstallation) -> None:
    """No row is lost or changed, the commands show it, and a daemon goes on where the old one ended."""
    before = {table: old.rows(table) for table in ("documents", "events", "files", "outbox")}
    assert {row["status"] for row in before["documents"]} == set(DocumentStatus)
    assert {(row["task"], row["state"]) for row in before["outbox"]} == {
        (task, state) for task in TASKS for state in STATES
    }
    assert "type: signspool db upgrade" in old.run("processor", "--once")
    upgraded = old.real("db", "upgrade")
    assert (upgraded.returncode, f"from schema {OLDEST} to {SCHEMA}" in upgraded.stdout) == (0, True), (
        upgraded
    )
    assert old.version() == SCHEMA
    for table, rows in before.items():
        for was, now in zip(rows, old.rows(table), strict=True):
            assert was.items() <= now.items()
    old.owed = before["outbox"]
    _expect_all_shown(old)
    _expect_a_daemon_to_go_on(old)


def _expect_all_shown(old: OldInstallation) -> None:
    listed = {row["document_id"]: row["status"] for row in old.json("documents", "ls", "--limit", "100")}
    assert listed == {document: str(status) for document, status in old.documents.items()}
    shown = old.json("documents", "show", "ssign", STRANGE)
    assert shown["document_id"] == STRANGE
    assert [(event["outcome"], event["message"]) for event in shown["events"]] == [
        ("applied", ODD_TEXT),
        ("repeated", ODD_TEXT),
    ]
    assert [event["occurred_at"] for event in shown["events"]] == [LONG_AGO.isoformat(), None]
    assert (shown["erased_at"], shown["history_dropped_at"], shown["registered_at"]) == (None, None, None)
    registered = old.json("documents", "show", "ssign", REGISTERED)
    assert registered["references"] == {"envelope": ODD_TEXT}
    assert registered["dms"] == {"id": "7", "note": "ção"}
    owed = old.json("deliveries", "ls", "--state", "failed", "--limit", "100")
    assert {(row["task"], row["last_error"]) for row in owed} == {(task, ODD_TEXT) for task in TASKS}


def _expect_a_daemon_to_go_on(old: OldInstallation) -> None:
    """It delivers what is due, leaves what is held or given up to people, and takes new callbacks."""
    old.callback(REGISTERED, "EXPIRED")
    daemon = old.nursery.start(["processor", "--config", str(old.config)], old.home / "processor.log")

    def stands(task: str, state: str) -> set[str]:
        """The states in which stand those that owed this task in that state long ago."""
        then = {row["id"] for row in old.owed if (row["task"], row["state"]) == (task, state)}
        return {row["state"] for row in old.rows("outbox") if row["id"] in then}

    old.wait(lambda: stands("deliver", "due") == {"done"}, "the delivery that was due")
    old.wait(lambda: old.status(REGISTERED) == "expired", "the new callback")
    for task in TASKS:
        for state in ("held", "failed", "done"):
            assert stands(task, state) == {state}
    assert [path.read_bytes() for path in (old.home / "archive").rglob("*.pdf")] != []
    # Given up long ago, and started afresh by a person.
    given_up = [str(row["id"]) for row in old.owed if (row["task"], row["state"]) == ("deliver", "failed")]
    old.run("deliveries", "retry", *given_up, "--yes")
    old.wait(lambda: stands("deliver", "failed") == {"done"}, "what was tried afresh")
    # Those that owe nothing any more are settled.
    old.wait(lambda: old.spool_has(Folder.DONE, done_long_ago(old)), "their entries in done/")
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(DEADLINE_SECONDS)
    assert "processor.stopped" in (old.home / "processor.log").read_text()


def done_long_ago(old: OldInstallation) -> set[str]:
    """The entries of documents that owed nothing any more when the database was upgraded."""
    undone = {row["event_fk"] for row in old.owed if row["state"] != "done"}
    return {row["name"] for row in old.rows("events") if row["ordinal"] == 0 and row["id"] not in undone}


@pytest.mark.parametrize(("old", "nth"), [("sqlite", 1), ("sqlite", 9), ("postgresql", 4)], indirect=["old"])
def test_an_upgrade_that_dies_halfway_has_done_nothing_and_can_be_repeated(
    old: OldInstallation, nth: int
) -> None:
    """Whatever statement it dies after, the tables are those of the old version."""
    before = old.rows("outbox")
    hit = old.home / "hit"
    fault = Fault("alembic.ddl.impl", "DefaultImpl._exec", "leave", nth, str(hit))
    words = ["db", "upgrade", "--config", str(old.config)]
    process = old.nursery.start(words, old.home / "killed.log", fault=fault)
    assert process.wait(DEADLINE_SECONDS)
    assert hit.exists(), (old.home / "killed.log").read_text()
    assert old.version() == OLDEST
    assert old.rows("outbox") == before
    assert f"from schema {OLDEST} to {SCHEMA}" in old.run("db", "upgrade")
    assert all(was.items() <= now.items() for was, now in zip(before, old.rows("outbox"), strict=True))
    assert "already" in old.run("db", "upgrade")


def test_several_upgrades_at_once_make_one(old: OldInstallation) -> None:
    """As on machines that share a database and are upgraded together."""
    engine = create_engine(old.url)
    logs = [old.home / f"upgrade-{number}.log" for number in range(3)]
    with engine.begin() as connection:
        # All of them come as far as they can before the first goes on.
        connection.execute(text("SELECT 1 FROM outbox"))
        words = ["db", "upgrade", "--config", str(old.config)]
        upgrading = [old.nursery.start(words, log) for log in logs]
        if engine.dialect.name == "postgresql":
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            old.wait(lambda: connection.scalar(text(waits)) == len(logs), "all of them to wait")
    engine.dispose()
    for process in upgrading:
        assert process.wait(DEADLINE_SECONDS)
    said = [log.read_text() for log in logs]
    # Each says what it found when it looked, which may have been before the others were done.
    assert all(text.endswith((f"to {SCHEMA}\n", f"schema {SCHEMA} already\n")) for text in said), said
    assert old.version() == SCHEMA


@pytest.mark.parametrize("old", ["sqlite"], indirect=True)
def test_an_older_program_does_not_touch_tables_of_a_newer_one(old: OldInstallation) -> None:
    """Whatever is typed; the way back is the database that was saved, as the page on operations says."""
    old.run("db", "upgrade")
    saved = old.rows("documents")
    engine = create_engine(old.url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    told = "schema 9999, made by a newer signspool: install that version"
    for words in (["db", "upgrade"], ["processor", "--once"], ["documents", "ls"], ["check", "--offline"]):
        assert told in old.run(*words), words
    assert old.real("processor").returncode == 1
    assert old.rows("documents") == saved
    assert old.version() == "9999"


def test_an_upgrade_waits_for_a_database_when_it_is_told_to(
    tmp_path: Path, postgres_url: URL, nursery: Nursery
) -> None:
    """Without being told it says at once what is the matter."""
    name = f"late_{uuid.uuid4().hex[:8]}"
    late = OldInstallation(tmp_path, postgres_url.set(database=name), nursery)
    assert f'database "{name}" does not exist' in late.run("db", "upgrade")
    assert "write it as 15m" in late.run("db", "upgrade", "--wait", "soon")
    log = tmp_path / "waiting.log"
    waiting = nursery.start(["db", "upgrade", "--wait", "2m", "--config", str(late.config)], log)
    late.wait(lambda: log.exists() and "it is tried again" in log.read_text(), "it to wait")
    engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        assert waiting.wait(DEADLINE_SECONDS)
        assert f"from schema none to {SCHEMA}" in log.read_text()
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()
    late.database.close()

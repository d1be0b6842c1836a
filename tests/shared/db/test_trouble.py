"""Trouble of the database itself is told from a row at fault, and says what to do; nobody waits for ever."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, insert, select, text
from sqlalchemy.exc import DataError

from shared.db.models import Document
from shared.db.session import Database
from shared.errors import DatabaseUnavailableError
from tests.conftest import make_database
from tests.shared.db.test_session import make_row
from tests.waiting import PATIENCE_SECONDS, wait_until


@pytest.fixture
def file_database(tmp_path: Path, migrated_file: Path) -> Iterator[Database]:
    shutil.copyfile(migrated_file, tmp_path / "signspool.db")
    database = Database(URL.create("sqlite", database=str(tmp_path / "signspool.db")))
    yield database
    database.close()


@pytest.fixture
def postgres_work(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    with make_database("postgresql", tmp_path, request) as url:
        yield url


def add(database: Database, key: str) -> None:
    with database.transaction() as connection:
        connection.execute(insert(Document), [make_row(key=key)])


def keys(database: Database) -> list[str]:
    with database.reading() as connection:
        return sorted(connection.scalars(select(Document.key)))


# The file of SQLite


def test_a_file_that_was_taken_away_is_not_made_anew_and_works_again_when_it_is_back(
    file_database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "signspool.db"
    add(file_database, "before")
    file.rename(tmp_path / "aside.db")
    for _ in range(2):
        with pytest.raises(DatabaseUnavailableError, match="put it back"):
            add(file_database, "meanwhile")
        with pytest.raises(DatabaseUnavailableError, match="put it back"):
            keys(file_database)
    assert not file.exists()
    (tmp_path / "aside.db").rename(file)
    add(file_database, "after")
    assert keys(file_database) == ["after", "before"]


def test_a_file_in_place_of_the_database_is_not_written_to(
    file_database: Database, tmp_path: Path, migrated_file: Path
) -> None:
    add(file_database, "before")
    shutil.copyfile(migrated_file, tmp_path / "restored.db")
    (tmp_path / "restored.db").rename(tmp_path / "signspool.db")
    with pytest.raises(DatabaseUnavailableError, match="start again to go on with this one"):
        add(file_database, "meanwhile")
    assert (tmp_path / "signspool.db").read_bytes() == migrated_file.read_bytes()


@contextmanager
def right_before_it_connects(database: Database, deed: Callable[[], object]) -> Iterator[None]:
    """Another hand does something after the file was looked at, and before it is opened anew."""

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        deed()
        made: sqlite3.Connection = sqlite3.connect(*arguments, **options)
        return made

    database.engine.dispose()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database.engine.dialect, "connect", connect)
        yield


def test_a_file_that_goes_between_the_look_and_the_opening_is_not_made_anew(
    file_database: Database, tmp_path: Path
) -> None:
    """SQLite would even play into it what lies in the log of the one that is gone."""
    add(file_database, "before")
    file = tmp_path / "signspool.db"
    with (
        right_before_it_connects(file_database, lambda: file.rename(tmp_path / "aside.db")),
        pytest.raises(DatabaseUnavailableError),
    ):
        add(file_database, "meanwhile")
    assert not file.exists()
    (tmp_path / "aside.db").rename(file)
    add(file_database, "after")
    assert keys(file_database) == ["after", "before"]


def test_a_file_that_is_replaced_between_the_look_and_the_opening_is_not_touched(
    file_database: Database, tmp_path: Path, migrated_file: Path
) -> None:
    add(file_database, "before")
    file = tmp_path / "signspool.db"
    other = shutil.copyfile(migrated_file, tmp_path / "restored.db")
    with (
        right_before_it_connects(file_database, lambda: other.rename(file)),
        pytest.raises(DatabaseUnavailableError, match="another file lies in the place"),
    ):
        keys(file_database)
    assert (tmp_path / "signspool.db").read_bytes() == migrated_file.read_bytes()


def test_a_commit_into_a_file_that_was_deleted_meanwhile_is_not_taken_for_done(
    file_database: Database, tmp_path: Path
) -> None:
    with pytest.raises(DatabaseUnavailableError), file_database.transaction() as connection:
        connection.execute(insert(Document), [make_row()])
        (tmp_path / "signspool.db").unlink()


def test_a_database_that_is_made_by_its_first_use_is_watched_too(tmp_path: Path) -> None:
    database = Database(URL.create("sqlite", database=str(tmp_path / "new.db")))
    database.upgrade()
    add(database, "first")
    (tmp_path / "new.db").unlink()
    with pytest.raises(DatabaseUnavailableError, match="taken away"):
        add(database, "second")
    database.close()


def test_the_file_of_another_owner_may_be_replaced(tmp_path: Path, migrated_file: Path) -> None:
    file = shutil.copyfile(migrated_file, tmp_path / "theirs.db")
    database = Database(URL.create("sqlite", database=str(file)), is_ours=False)
    add(database, "1")
    file.rename(tmp_path / "aside.db")
    shutil.copyfile(migrated_file, file)
    with database.transaction() as connection:
        assert connection.scalar(select(Document.key)) == "1"
    database.close()


def test_the_file_of_another_owner_is_never_made(tmp_path: Path) -> None:
    database = Database(URL.create("sqlite", database=str(tmp_path / "theirs.db")), is_ours=False)
    with pytest.raises(DatabaseUnavailableError):
        keys(database)
    assert list(tmp_path.iterdir()) == []
    database.close()


@pytest.mark.parametrize("content", [b"no database at all, of some length" * 100, b""])
def test_a_file_that_is_no_database_of_ours_is_unavailable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.db").write_bytes(content)
    database = Database(URL.create("sqlite", database=str(tmp_path / "x.db")))
    with pytest.raises(DatabaseUnavailableError):
        keys(database)
    database.close()


# What the database says


def test_tables_that_are_gone_are_no_fault_of_a_row(database_url: URL) -> None:
    database = Database(database_url)
    with database.transaction() as connection:
        connection.execute(text("ALTER TABLE documents RENAME TO away"))
    with pytest.raises(DatabaseUnavailableError, match=r"lacks a table.*signspool db upgrade"):
        add(database, "1")
    with database.transaction() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO documents"))
    add(database, "1")
    database.close()


@pytest.mark.parametrize(
    "statement",
    [
        "SET LOCAL ROLE pg_monitor; SELECT count(*) FROM documents",
        "SET LOCAL transaction_read_only = on; DELETE FROM documents",
        "SET LOCAL search_path = nowhere; SELECT count(*) FROM documents",
        "SET LOCAL statement_timeout = 20; SELECT pg_sleep(10)",
        "LOCK TABLE documents IN ACCESS EXCLUSIVE MODE NOWAIT",
    ],
    ids=["rights", "read-only", "schema", "time-out", "locked"],
)
def test_trouble_of_postgresql_is_unavailable(postgres_work: URL, statement: str) -> None:
    database, other = Database(postgres_work), Database(postgres_work)
    with other.transaction() as holder:
        holder.execute(text("LOCK TABLE events, documents IN ACCESS SHARE MODE"))
        with pytest.raises(DatabaseUnavailableError), database.transaction() as connection:
            connection.exec_driver_sql(statement)
    database.close()
    other.close()


def test_a_value_that_the_database_cannot_take_is_a_fault_of_the_row(postgres_work: URL) -> None:
    database = Database(postgres_work)
    with pytest.raises(DataError), database.transaction() as connection:
        connection.execute(insert(Document), [make_row(status="x" * 100)])
    database.close()


def test_the_loser_of_a_deadlock_may_try_again(postgres_work: URL) -> None:
    database = Database(postgres_work)
    add(database, "a")
    add(database, "b")
    both_hold_one = threading.Barrier(2)

    def touch(first: str, second: str) -> str:
        try:
            with database.transaction() as connection:
                connection.exec_driver_sql("SET LOCAL deadlock_timeout = 20")
                for key in (first, second):
                    connection.execute(select(Document.id).where(Document.key == key).with_for_update())
                    if key == first:
                        both_hold_one.wait(PATIENCE_SECONDS)
        except DatabaseUnavailableError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(2) as threads:
        said = sorted(threads.map(touch, "ab", "ba"))
    assert said[0] == ""
    assert said[1].startswith("the database asks to try again: deadlock detected")
    database.close()


def test_a_serialisation_failure_may_be_tried_again(postgres_work: URL) -> None:
    database, other = Database(postgres_work), Database(postgres_work)
    add(database, "a")
    change = text("UPDATE documents SET refs_version = refs_version + 1")
    with (
        pytest.raises(DatabaseUnavailableError, match="asks to try again"),
        database.transaction() as connection,
    ):
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.scalar(select(Document.refs_version))
        with other.transaction() as winner:
            winner.execute(change)
        connection.execute(change)
    database.close()
    other.close()


# Silence


def test_a_server_that_is_silent_too_long_is_unavailable_and_lets_go_of_the_call(postgres_work: URL) -> None:
    database = Database(postgres_work, silence_seconds=0.3)
    with (
        pytest.raises(DatabaseUnavailableError, match="no answer within"),
        database.transaction() as connection,
    ):
        connection.exec_driver_sql("SELECT pg_sleep(600) -- the silent one")
    running = text("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE :words")

    patient = Database(postgres_work)

    def is_ended() -> bool:
        with patient.reading() as connection:
            return not connection.scalar(running, {"words": "SELECT pg_sleep(600)%"})

    wait_until(is_ended, "the server to end it")
    for opened in (database, patient):
        opened.close()


def test_an_answer_that_comes_in_pieces_may_take_long(postgres_work: URL) -> None:
    database = Database(postgres_work, silence_seconds=3.0)
    with database.transaction() as connection:
        pieces = "SELECT repeat('x', 10000), pg_sleep(0.8) FROM generate_series(1, 4)"
        assert len(connection.exec_driver_sql(pieces).all()) == 4
    database.close()


def test_at_the_end_nobody_waits_any_more(postgres_work: URL) -> None:
    database = Database(postgres_work)
    called = threading.Event()

    def wait() -> str:
        try:
            with database.transaction() as connection:
                called.set()
                connection.exec_driver_sql("SELECT pg_sleep(600)")
        except DatabaseUnavailableError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(wait)
        assert called.wait(PATIENCE_SECONDS)
        database.give_up()
        assert "no answer" in waiting.result(PATIENCE_SECONDS)
    with pytest.raises(DatabaseUnavailableError, match="ends"), database.transaction():
        pass
    database.close()


def test_the_values_of_a_statement_are_not_repeated_in_a_message(postgres_work: URL) -> None:
    database = Database(postgres_work)
    with pytest.raises(DatabaseUnavailableError) as caught, database.transaction() as connection:
        connection.execute(text("SELECT :number FROM nowhere_at_all"), {"number": "123.456.789-00"})
    assert "123.456" not in str(caught.value)
    database.close()

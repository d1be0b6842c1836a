"""Transactions tell a lost database from a bad row; the schema is checked, upgraded and whole."""

from __future__ import annotations

import sqlite3
import uuid
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import URL, create_engine, insert, literal, select, text
from sqlalchemy.exc import IntegrityError, InternalError

from shared.db import session
from shared.db.models import Base, Document, ExactText, document_key
from shared.db.session import SCHEMA, Database
from shared.errors import DatabaseUnavailableError, SchemaError
from tests.doubles import FakeTime


def make_row(**changes: object) -> dict[str, object]:
    now = FakeTime().now()
    return {
        "provider": "p",
        "key": "1",
        "document_id": "1",
        "status": "pending",
        "created_at": now,
        "refs": {},
        "dms": {},
        "refs_version": 0,
        "learned": {},
        **changes,
    }


def test_the_migrations_make_exactly_the_tables_of_the_models(database: Database) -> None:
    with database.transaction() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_schema_that_the_program_needs_is_the_newest_migration() -> None:
    names = [path.name for path in (Path(session.__file__).parent / "migrations" / "versions").glob("*.py")]
    assert max(names).startswith(f"{SCHEMA}_")


def test_an_upgraded_database_is_of_the_newest_schema(database: Database) -> None:
    assert database.schema_version() == SCHEMA
    database.check_schema()
    database.upgrade()
    database.check_schema()


def test_an_empty_database_says_what_to_type(tmp_path: Path) -> None:
    database = Database(URL.create("sqlite", database=str(tmp_path / "empty.db")))
    with pytest.raises(SchemaError, match="signspool db upgrade"):
        database.check_schema()
    database.close()


def test_a_database_of_a_newer_program_is_told_apart(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaError, match="newer signspool"):
        database.check_schema()


def test_a_bad_row_is_not_a_lost_database(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(insert(Document), [make_row()])
    with pytest.raises(IntegrityError), database.transaction() as connection:
        connection.execute(insert(Document), [make_row()])


def test_an_error_rolls_everything_back(database: Database) -> None:
    with pytest.raises(KeyError), database.transaction() as connection:
        connection.execute(insert(Document), [make_row()])
        raise KeyError
    with database.transaction() as connection:
        assert connection.scalars(select(Document.id)).all() == []


def test_foreign_keys_are_held(database: Database) -> None:
    with pytest.raises(IntegrityError), database.transaction() as connection:
        connection.execute(
            text(
                "INSERT INTO files (document_fk, kind, source, name, media_type, size_bytes, sha256, path,"
                " spool_id, fetched_at) VALUES (999, 'k', 's', 'n', 'm', 1, 'x', 'p', 's', :now)"
            ),
            {"now": FakeTime().now().isoformat()},
        )


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://nobody@127.0.0.1:1/none",
        "postgresql+psycopg://nobody@host.invalid/none",
        "sqlite:////proc/no/such/folder/x.db",
    ],
)
def test_a_database_that_is_away_is_unavailable(url: str) -> None:
    database = Database(url)
    with pytest.raises(DatabaseUnavailableError), database.transaction():
        pass


def test_a_locked_sqlite_is_unavailable_and_then_available_again(tmp_path: Path) -> None:
    path = tmp_path / "locked.db"
    database = Database(URL.create("sqlite", database=str(path)), busy_timeout_seconds=0.1)
    database.upgrade()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailableError, match="locked"), database.transaction():
        pass
    other.execute("COMMIT")
    other.close()
    with database.transaction() as connection:
        connection.execute(insert(Document), [make_row()])
    database.close()


def test_a_connection_killed_in_the_middle_is_unavailable_and_the_next_one_works(postgres_url: URL) -> None:
    database = Database(postgres_url.set(database="template1"))
    killer = Database(postgres_url)
    with pytest.raises(DatabaseUnavailableError), database.transaction() as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
        with killer.transaction() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        connection.execute(text("SELECT 1"))
    with database.transaction() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    database.close()
    killer.close()


def test_sqlite_writes_ahead_and_syncs_fully(tmp_path: Path) -> None:
    database = Database(URL.create("sqlite", database=str(tmp_path / "x.db")))
    with database.transaction() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    database.close()
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


@pytest.mark.parametrize("word", ["plain", "back\\slash", "\0", "\ud800", "\\u0000", "é\\", "🖋️\0\ud83d"])
def test_any_text_comes_back_as_it_went(database: Database, word: str) -> None:
    with database.transaction() as connection:
        connection.execute(insert(Document), [make_row(document_id=word, key=document_key(word))])
        assert connection.scalars(select(Document.document_id)).one() == word


def test_escaped_texts_never_fall_together() -> None:
    words = ["\0", "\\u0000", "\\", "\\\\", "\\u005c", "\ud800", "\\ud800"]
    kind = ExactText()
    assert len({kind.process_bind_param(word, None) for word in words}) == len(words)  # type: ignore[arg-type]


def test_long_ids_have_short_keys_that_differ() -> None:
    one, other = "x" * 5000, "x" * 4999 + "y"
    assert document_key(one) != document_key(other)
    assert len(document_key(one).encode()) < 200
    assert document_key("155") == "155"


def test_reading_waits_for_no_writer_and_holds_none_up(database_url: URL) -> None:
    one, other = Database(database_url), Database(database_url, busy_timeout_seconds=0.1)
    with one.reading() as reader:
        assert reader.scalars(select(Document.id)).all() == []
        with other.transaction() as writer:
            writer.execute(insert(Document), [make_row()])
            with one.reading() as second:
                assert second.scalars(select(Document.id)).all() == []
    one.close()
    other.close()


def test_reading_cannot_write_on_postgresql(postgres_url: URL) -> None:
    database = Database(postgres_url.set(database="template1"))
    with pytest.raises((InternalError, DatabaseUnavailableError)), database.reading() as connection:
        connection.execute(text("CREATE TABLE nothing (id integer)"))
    database.close()


def test_a_database_without_an_encoding_takes_any_text(postgres_url: URL) -> None:
    """Where the server was set up for ASCII alone, the driver would give bytes in place of texts."""
    name = f"ascii_{uuid.uuid4().hex[:8]}"
    made = f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    server = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(made))
    database = Database(postgres_url.set(database=name))
    try:
        database.upgrade()
        with database.transaction() as connection:
            assert connection.scalar(select(literal("ação 📝"))) == "ação 📝"
            assert connection.scalar(text("SELECT current_setting('server_encoding')")) == "SQL_ASCII"
    finally:
        database.close()
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()

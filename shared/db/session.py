"""The database: one engine, transactions that tell a lost database from a bad row, and the schema."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry

from shared.errors import DatabaseUnavailableError, SchemaError

SCHEMA = "0001"
"""The version of the tables that this program needs: the name of the newest migration. They sort by age."""

_VERSION_TABLE = "alembic_version"
_BUSY_TIMEOUT_SECONDS = 30.0
_READING_OPTION = "signspool_reading"
_MIGRATIONS = Path(__file__).with_name("migrations")


class Database:
    """One database, SQLite or PostgreSQL; safe to use from several threads.

    One that is not ours is left in the modes that its owner chose.
    """

    def __init__(
        self, url: str | URL, *, busy_timeout_seconds: float = _BUSY_TIMEOUT_SECONDS, is_ours: bool = True
    ) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _engine(self.url, busy_timeout_seconds, is_ours)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection in a transaction: committed at the end, rolled back on any error.

        Raises:
            DatabaseUnavailableError: the database is away, locked or full. What a row itself is to blame for
                comes as SQLAlchemy's own `DBAPIError`.
        """
        with self._unavailable(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection in a transaction that only reads, and holds up nobody who writes.

        Raises:
            DatabaseUnavailableError: the database is away or locked.
        """
        with self._unavailable(), self.engine.connect() as connection:
            yield connection.execution_options(**{_READING_OPTION: True}, postgresql_readonly=True)

    @contextmanager
    def _unavailable(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeoutError as error:
            raise DatabaseUnavailableError("no database connection became free in time") from error
        except DBAPIError as error:
            if not is_unavailable(error):
                raise
            raise DatabaseUnavailableError(f"the database does not answer: {_first_line(error)}") from error

    # The schema

    def upgrade(self) -> None:
        """Bring the tables to the version of this program.

        Raises:
            DatabaseUnavailableError: the database does not answer.
        """
        # Only here, since it takes long to load and every command would pay for it.
        from alembic import command  # noqa: PLC0415
        from alembic.config import Config  # noqa: PLC0415

        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        config.set_main_option("path_separator", "os")
        with self.transaction() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, SCHEMA)

    def schema_version(self) -> str | None:
        """The version of the tables; None for an empty database.

        Raises:
            DatabaseUnavailableError: the database does not answer.
        """
        with self.reading() as connection:
            if not inspect(connection).has_table(_VERSION_TABLE):
                return None
            version: str | None = connection.scalar(text(f"SELECT version_num FROM {_VERSION_TABLE}"))  # noqa: S608
            return version

    def check_schema(self) -> None:
        """Return when the tables are of this program's version.

        Raises:
            SchemaError: they are not; the message says what to type.
            DatabaseUnavailableError: the database does not answer.
        """
        found = self.schema_version()
        if found == SCHEMA:
            return
        if found is not None and found > SCHEMA:
            raise SchemaError(
                f"the database has schema {found}, made by a newer signspool: install that version"
            )
        raise SchemaError(
            f"the database has schema {found or 'none'}, this version needs {SCHEMA}; "
            "type: signspool db upgrade"
        )

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _engine(url: URL, busy_timeout_seconds: float, is_ours: bool) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(
            url,
            pool_size=8,
            max_overflow=8,
            pool_pre_ping=True,
            pool_timeout=30,
            connect_args={"connect_timeout": 10, "application_name": "signspool"}
            if url.get_backend_name() == "postgresql"
            else {},
        )
    engine = create_engine(url, connect_args={"timeout": busy_timeout_seconds})
    event.listen(engine, "connect", _prepare_our_sqlite if is_ours else _leave_begin_to_us)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _leave_begin_to_us(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
    # The driver opens no transaction by itself; `_begin_immediate` does.
    connection.isolation_level = None


def _prepare_our_sqlite(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
    _leave_begin_to_us(connection, record)
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    # Two transactions that read first and then both want to write would end in SQLITE_BUSY at once, whatever
    # the busy timeout; taking the write lock at the beginning makes the second one wait instead.
    reading = connection.get_execution_options().get(_READING_OPTION, False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def is_unavailable(error: DBAPIError) -> bool:
    """Whether an error is the database's own trouble and not the fault of a row."""
    if error.connection_invalidated or isinstance(error, InterfaceError):
        return True
    original: Any = error.orig
    if isinstance(original, sqlite3.Error):
        return isinstance(original, sqlite3.OperationalError) and _is_sqlite_trouble(original)
    state = getattr(original, "sqlstate", None)
    if state is None:
        return isinstance(error, OperationalError)
    # 08 connection, 40 serialisation and deadlock, 53 out of resources, 57 shutdown and cancel, 58 system
    return state[:2] in ("08", "40", "53", "57", "58") or state == "25006"


_SQLITE_TROUBLE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
    }
)


def _is_sqlite_trouble(error: sqlite3.OperationalError) -> bool:
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _SQLITE_TROUBLE


def _first_line(error: DBAPIError) -> str:
    """What the driver said, without the statement and its parameters, which may hold personal data."""
    return str(error.orig).strip().partition("\n")[0][:200]

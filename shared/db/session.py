"""The database: one engine, transactions that tell a lost database from a bad row, and the schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from sqlalchemy import Connection, Engine, create_engine, func, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from shared.db import sqlite
from shared.db.patience import Patience
from shared.db.trouble import in_words, is_unavailable
from shared.errors import DatabaseUnavailableError, SchemaError

SCHEMA = "0003"
"""The version of the tables that this program needs: the name of the newest migration. They sort by age."""

_VERSION_TABLE = "alembic_version"
_UPGRADE_LOCK = 0x7369676E73706F6C
"""The number of PostgreSQL's lock for it: `signspol`, which nobody else is likely to choose."""
# Shorter than any grace time, so that a daemon which waits for another's lock still ends in time.
_BUSY_TIMEOUT_SECONDS = 5.0
_MIGRATIONS = Path(__file__).with_name("migrations")


class Database:
    """One database, SQLite or PostgreSQL; safe to use from several threads.

    One that is not ours is left in the modes that its owner chose. A PostgreSQL that is silent for
    `silence_seconds` in the middle of a call counts as away; without it, it is waited for. `on_transaction`
    is told of each transaction whether it was to `read` or to `write`, and how many seconds it took.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        busy_timeout_seconds: float = _BUSY_TIMEOUT_SECONDS,
        silence_seconds: float | None = None,
        is_ours: bool = True,
        on_transaction: Callable[[str, float], None] = lambda _mode, _seconds: None,
    ) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._patience = Patience(silence_seconds)
        self._on_transaction = on_transaction
        self._file = sqlite.SameFile(self.url) if self.is_sqlite and is_ours else None
        self.engine = self._make_engine(busy_timeout_seconds, is_ours)

    def _make_engine(self, busy_timeout_seconds: float, is_ours: bool) -> Engine:
        if self.is_sqlite:
            return sqlite.make_engine(self.url, busy_timeout_seconds, self._file)
        if self.url.get_backend_name() == "postgresql":
            # Only here, since it takes long to load and SQLite needs none of it.
            from shared.db.postgresql import make_engine  # noqa: PLC0415

            return make_engine(self.url, self._patience, is_ours=is_ours)
        return create_engine(self.url, pool_pre_ping=True)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection in a transaction: committed at the end, rolled back on any error.

        Raises:
            DatabaseUnavailableError: the database is away, locked or full. What a row itself is to blame for
                comes as SQLAlchemy's own `DBAPIError`.
        """
        with self._unavailable("write"), self.engine.begin() as connection:
            yield connection
        if self._file is not None:
            # Taken away meanwhile, and what was committed with it.
            self._file.check()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection in a transaction that only reads, and holds up nobody who writes.

        Raises:
            DatabaseUnavailableError: the database is away or locked.
        """
        with self._unavailable("read"), self.engine.connect() as connection:
            yield connection.execution_options(**{sqlite.READING_OPTION: True}, postgresql_readonly=True)

    @contextmanager
    def _unavailable(self, mode: str) -> Iterator[None]:
        if self._patience.has_ended:
            raise DatabaseUnavailableError("the program ends and waits for the database no longer")
        if self._file is not None:
            self._file.check()
        began = perf_counter()
        try:
            yield
        except PoolTimeoutError as error:
            raise DatabaseUnavailableError("no database connection became free in time") from error
        except DBAPIError as error:
            if not is_unavailable(error):
                raise
            raise DatabaseUnavailableError(in_words(error)) from error
        finally:
            self._on_transaction(mode, perf_counter() - began)

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
            if not self.is_sqlite:
                # Of several upgrades at once the others wait here, and then find nothing left to do.
                connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
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

    def give_up(self) -> None:
        """Wait for no answer any more: each call that does, and each that begins from now on, is refused as
        unavailable. For the end of a program whose database hangs."""
        self._patience.end()

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

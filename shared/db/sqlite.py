"""SQLite: its engine, and a database file that is not mistaken for another one."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Dialect, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from shared.errors import DatabaseUnavailableError

READING_OPTION = "signspool_reading"
"""The execution option of a connection that only reads, and needs no lock for it."""


class SameFile:
    """The file of an SQLite database, known by device and inode from the first time it is seen.

    An open connection goes on writing into a file that was deleted, and a new one makes an empty file in its
    place, into which SQLite then plays what the other's log held; both lose everything without a word.
    """

    def __init__(self, url: URL) -> None:
        self.path = file_of(url)
        self._identity: tuple[int, int] | None = None

    @property
    def is_known(self) -> bool:
        """Whether the file was seen, and so may not be made any more."""
        return self._identity is not None

    def check(self) -> None:
        """Return while the file is the one that it was.

        Raises:
            DatabaseUnavailableError: it is gone, or another lies in its place.
        """
        if self.path is None:
            return
        try:
            found = self.path.stat()
        except FileNotFoundError:
            if self._identity is None:
                return
            raise DatabaseUnavailableError(
                f"the database file {self.path} was taken away: put it back"
            ) from None
        except OSError as error:
            raise DatabaseUnavailableError(
                f"the database file {self.path} cannot be looked at: {error.strerror}"
            ) from error
        if self._identity is None:
            self._identity = (found.st_dev, found.st_ino)
        elif self._identity != (found.st_dev, found.st_ino):
            raise DatabaseUnavailableError(
                f"another file lies in the place of the database {self.path}: "
                "put the one back that was there, or start again to go on with this one"
            )


def file_of(url: URL) -> Path | None:
    """Where the database lies; None for one in memory, or named by an address of SQLite's own."""
    database = url.database or ""
    in_memory_or_address = database in ("", ":memory:") or database.startswith("file:")
    return None if in_memory_or_address else Path(database).absolute()


def make_engine(url: URL, busy_timeout_seconds: float, file: SameFile | None) -> Engine:
    """An engine that waits so long for another's lock.

    With a `file` the database is ours: it is put into our modes, and made if it was never there. Without, it
    is left in the modes of its owner, and never made.
    """
    engine = create_engine(url, connect_args={"timeout": busy_timeout_seconds})
    path = file_of(url)

    def connect(
        dialect: Dialect, _record: ConnectionPoolEntry, arguments: list[Any], options: dict[str, Any]
    ) -> DBAPIConnection:
        # The file may have gone since somebody last looked.
        if path is not None and (file is None or file.is_known):
            arguments, options = [f"{path.as_uri()}?mode=rw"], {**options, "uri": True}
        with contextlib.ExitStack() as on_error:
            made = dialect.connect(*arguments, **options)
            on_error.callback(made.close)
            if file is not None:
                # Or come to be another one, before it was opened; what is open now stays what it is.
                file.check()
            on_error.pop_all()
        return made

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "connect", _leave_begin_to_us if file is None else _prepare_ours)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _leave_begin_to_us(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
    # The driver opens no transaction by itself; `_begin_immediate` does.
    connection.isolation_level = None


def _prepare_ours(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
    _leave_begin_to_us(connection, record)
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    # Two transactions that read first and then both want to write would end in SQLITE_BUSY at once, whatever
    # the busy timeout; taking the write lock at the beginning makes the second one wait instead.
    reading = connection.get_execution_options().get(READING_OPTION, False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

"""Tells a database that is in trouble from a row that is at fault."""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

# Of SQLSTATE: 08 connection, 28 who we are, 3D and 3F no such database or schema, 40 serialisation and
# deadlock, 53 out of resources, 55 not in a state to do it, 57 shutdown and cancel, 58 system, F0 settings.
_TROUBLE_CLASSES = frozenset({"08", "28", "3D", "3F", "40", "53", "55", "57", "58", "F0"})
_READ_ONLY = "25006"
_NO_TABLE, _NO_COLUMN = "42P01", "42703"
# Ended because it was idle or took too long; no rights; damaged pages and indexes.
_TROUBLE_STATES = frozenset({_READ_ONLY, "25P03", "25P04", "42501", _NO_TABLE, _NO_COLUMN, "XX001", "XX002"})

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
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    }
)
_SQLITE_NO_SCHEMA = ("no such table", "no such column")


def is_unavailable(error: DBAPIError) -> bool:
    """Whether an error is the database's own trouble and not the fault of a row."""
    if error.connection_invalidated or isinstance(error, InterfaceError):
        return True
    original: Any = error.orig
    if isinstance(original, sqlite3.Error):
        code = getattr(original, "sqlite_errorcode", 0) & 0xFF
        return code in _SQLITE_TROUBLE or _lacks_schema(original)
    state = getattr(original, "sqlstate", None)
    if state is None:
        return isinstance(error, OperationalError)
    return state[:2] in _TROUBLE_CLASSES or state in _TROUBLE_STATES


def in_words(error: DBAPIError) -> str:
    """What is the matter with the database, and what to do; for one that `is_unavailable`.

    Says what the driver said, without the statement and its parameters, which may hold personal data.
    """
    said = str(error.orig).strip().partition("\n")[0][:200]
    original: Any = error.orig
    state = getattr(original, "sqlstate", None) or ""
    if state[:2] == "40":
        return f"the database asks to try again: {said}"
    if _lacks_schema(original):
        return f"the database lacks a table of ours: {said}. Restore it, or type: signspool db upgrade"
    return f"the database does not answer: {said}"


def _lacks_schema(original: Any) -> bool:
    if isinstance(original, sqlite3.Error):
        return str(original).startswith(_SQLITE_NO_SCHEMA)
    return getattr(original, "sqlstate", None) in (_NO_TABLE, _NO_COLUMN)

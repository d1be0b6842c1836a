"""PostgreSQL: its engine, and connections that do not wait for ever for a server that hangs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from psycopg import capabilities
from psycopg.abc import PQGen
from psycopg.waiting import Ready
from sqlalchemy import Dialect, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import ConnectionPoolEntry

from shared.db.patience import Patience

T = TypeVar("T")

_CONNECT_TIMEOUT_SECONDS = 5
_CANCEL_SECONDS = 2.0
_SESSION = "; ".join(
    f"SET {name} = '{value}'"
    for name, value in {
        # A machine that is cut off or hangs in the middle of a transaction must not keep its locks from the
        # others: no transaction of ours waits for anything but the database.
        "idle_in_transaction_session_timeout": "10s",
        # The server is to notice soon that a machine is gone which could not say so. Without effect where the
        # connection is no TCP connection.
        "tcp_keepalives_idle": "10s",
        "tcp_keepalives_interval": "5s",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": "25s",
    }.items()
)
_POOL_OPTIONS: dict[str, Any] = {"pool_size": 8, "max_overflow": 8, "pool_pre_ping": True, "pool_timeout": 15}


def make_engine(url: URL, patience: Patience, *, is_ours: bool) -> Engine:
    """An engine whose connections have this patience; those to a database of ours hold no lock while idle."""
    options = {
        "connect_timeout": _CONNECT_TIMEOUT_SECONDS,
        "application_name": "signspool",
        # Whatever the database was made with: of one without an encoding the driver would give bytes.
        "client_encoding": "utf8",
    }
    engine = create_engine(url, connect_args=options, **_POOL_OPTIONS)
    if engine.dialect.driver != "psycopg":
        return engine

    def connect(
        _dialect: Dialect, _record: ConnectionPoolEntry, arguments: list[Any], options: dict[str, Any]
    ) -> PatientConnection:
        if patience.has_ended:
            raise psycopg.OperationalError("the program ends and connects no more")
        made = PatientConnection.connect(*arguments, **options)
        made.patience = patience
        if is_ours:
            made.autocommit = True
            made.execute(_SESSION)
            made.autocommit = False
        return made

    event.listen(engine, "do_connect", connect)
    return engine


class PatientConnection(psycopg.Connection[Any]):
    """A connection whose calls are given up when its patience is over; then it is closed for good.

    The limit has to be ours: a server that hangs keeps no time-out of its own, and its kernel still answers
    for it, so that the network sees no fault either.
    """

    patience = Patience(None)

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """Wait for an answer, as every call does in the end.

        Raises:
            psycopg.OperationalError: the patience is over. What the server made of the call is unknown.
        """
        return super().wait(self._limited(gen), *args, **kwargs)

    def _limited(self, gen: PQGen[T]) -> Generator[Any, Any, T]:
        # The driver resumes a waiting call some ten times a second, so that Ctrl-C is heard; so is the clock.
        try:
            wanted = next(gen)
            heard_at = time.monotonic()
            while True:
                ready = yield wanted
                if ready != Ready.NONE:
                    heard_at = time.monotonic()
                elif self.patience.is_over(time.monotonic() - heard_at):
                    raise self._give_up(time.monotonic() - heard_at)
                wanted = gen.send(ready)
        except StopIteration as end:
            answer: T = end.value
            return answer

    def _give_up(self, silent_seconds: float) -> psycopg.OperationalError:
        if not self.patience.has_ended and capabilities.has_cancel_safe():
            # It may only be waiting for a lock; a server that can hear it then lets go of the call at once.
            with contextlib.suppress(psycopg.Error):
                self.cancel_safe(timeout=_CANCEL_SECONDS)
        self.close()
        return psycopg.OperationalError(f"no answer within {silent_seconds:.0f} s")

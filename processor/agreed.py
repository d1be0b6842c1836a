"""The time by which all processors on one database agree, however their own clocks differ: the database's."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy import func, select

from shared.clock import Clock
from shared.db.session import Database

log = structlog.get_logger()

_LONGEST_QUESTION_SECONDS = 1.0
"""An answer that took longer says too little of what time it is."""
_WORTH_TELLING = timedelta(seconds=2)


class AgreedTime:
    """Leases, next attempts and permitted times are written by one machine and read by another, so none of
    them may come from a machine's own clock. An SQLite database has one machine, and no clock of its own.

    Between two questions the time goes on by the machine's monotonic clock, so a clock that is set meanwhile
    changes nothing. Safe to use from several threads.
    """

    def __init__(self, own: Clock, database: Database) -> None:
        self._own = own
        self._database = database
        self._known: tuple[datetime, float] | None = None
        """An instant of the database's, and what our monotonic clock showed then."""
        self._told: timedelta | None = None

    def now(self) -> datetime:
        """The present instant, aware, UTC; before the first question, by the machine's own clock."""
        known = self._known
        if known is None:
            return self._own.now()
        instant, at = known
        return instant + timedelta(seconds=self._own.monotonic() - at)

    def clock(self) -> Clock:
        """The machine's clock, but for what time it is."""
        return replace(self._own, now=self.now)

    def ask(self) -> None:
        """Ask the database what time it is.

        Raises:
            DatabaseUnavailableError: it does not answer; the time goes on from what it said last.
        """
        if self._database.is_sqlite:
            return
        with self._database.reading() as connection:
            # What a connection costs is paid before the question.
            connection.execute(select(1))
            began = self._own.monotonic()
            instant: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
            ended = self._own.monotonic()
        if self._known is None or ended - began <= _LONGEST_QUESTION_SECONDS:
            self._known = (instant, (began + ended) / 2)
            self._tell()

    def _tell(self) -> None:
        """Say so when the machine's clock is off, and again when that has changed much."""
        ahead = self._own.now() - self.now()
        before = self._told or timedelta(0)
        if abs(ahead - before) < _WORTH_TELLING:
            return
        self._told = ahead
        log.warning(
            "clock.differs",
            ahead_of_database_seconds=round(ahead.total_seconds(), 1),
            what_to_do="synchronise the clocks of this machine and of the database's",
        )


def agreed_now(database: Database) -> datetime:
    """What time it is, for a command that changes something beside processors of other machines.

    Raises:
        DatabaseUnavailableError: the database does not answer.
    """
    time = AgreedTime(Clock(), database)
    time.ask()
    return time.now()

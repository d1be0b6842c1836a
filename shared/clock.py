"""The time, passed in and never imported for its own sake."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from zoneinfo import ZoneInfo


def utc_now() -> datetime:
    """The present instant, aware, UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Clock:
    """What time it is, and which day that is where the spool stands.

    `now` gives aware UTC instants, `monotonic` seconds for measuring waits. A `zone` of None is the
    machine's.
    """

    zone: tzinfo | None = None
    now: Callable[[], datetime] = utc_now
    monotonic: Callable[[], float] = time.monotonic

    @classmethod
    def in_zone(cls, name: str | None) -> Clock:
        """A clock for an IANA zone name; None is the machine's zone."""
        return cls(ZoneInfo(name) if name else None)

    def local(self, instant: datetime | None = None) -> datetime:
        """An instant, by default the present, with the spool's offset."""
        return (instant or self.now()).astimezone(self.zone)

    def today(self) -> date:
        """The day that a file received now belongs to."""
        return self.local().date()

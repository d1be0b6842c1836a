"""The budget of an account: every call is booked before it is sent, by all processors in one set of books."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import Connection, and_, delete, or_, select, update

from processor import polls
from shared.db.dialect import insert_missing
from shared.db.models import CallRow
from shared.errors import NotBookedError
from shared.providers import AnyProvider
from shared.providers._base import Limits

_DAY = timedelta(days=1)
_DAY_SECONDS = 86_400.0


class Span(StrEnum):
    """What calls are counted in. A day has no limit of its own: it is what asking may use of the month."""

    MONTH = "month"
    DAY = "day"
    HOUR = "hour"
    MINUTE = "minute"
    SECOND = "second"


_KEPT = {
    Span.MONTH: timedelta(days=400),
    Span.DAY: timedelta(days=100),
    Span.HOUR: 2 * _DAY,
    Span.MINUTE: timedelta(hours=1),
    Span.SECOND: timedelta(minutes=1),
}
"""How long the books keep what is over."""


class Window(NamedTuple):
    """One span of time, in UTC, and how many calls the account may make in it; None is no limit."""

    span: Span
    begins_at: datetime
    ends_at: datetime
    limit: int | None


class Left(NamedTuple):
    """How many calls are left in a window that has a limit."""

    span: Span
    limit: int
    left: int
    ends_at: datetime


class Standing(NamedTuple):
    """What asking a provider takes, in calls of its longest window, of a day without any.

    Asking as often as is wished would take `needed`; the account allows the `budget`, None without a limit,
    of which so much is `spent`.
    """

    needed: float
    budget: int | None
    spent: int


@dataclass(frozen=True, slots=True)
class Figures:
    """How an account's budget stands beside what is to be asked.

    `open_subjects` are asked about again and again; `wanted_a_day` calls would do that as often as the
    settings say, `possible_a_day` are what asking may use. `every_seconds` is how often each is asked.
    """

    provider: str
    open_subjects: int
    wanted_a_day: float
    possible_a_day: float
    every_seconds: float
    left: tuple[Left, ...]

    @property
    def is_short(self) -> bool:
        """Whether the budget cannot carry what is to be asked."""
        return self.wanted_a_day > self.possible_a_day


@dataclass(frozen=True, slots=True)
class Budget:
    """The books of one account, kept in the table `calls`. Windows follow the clock of UTC.

    Every method works inside the caller's transaction.
    """

    account: str
    limits: Limits

    def book(self, connection: Connection, now: datetime, *, asking: bool) -> list[int]:
        """Use a place in every window; returns what `unbook` takes. Asking leaves its reserve to others, and
        no more than today's share of the month to the days after.

        Raises:
            NotBookedError: there is none; says when there will be.
        """
        windows = list(windows_of(self.limits, now))
        if not windows:
            return []
        insert_missing(
            connection,
            CallRow,
            [{"account": self.account, **_place(window), "calls": 0} for window in windows],
        )
        # The longest window first, always: who holds its row may change all the others.
        rows = {
            window.span: connection.execute(
                select(CallRow.id, CallRow.calls)
                .where(
                    CallRow.account == self.account,
                    CallRow.span == window.span,
                    CallRow.begins_at == window.begins_at,
                )
                .with_for_update()
            ).one()
            for window in windows
        }
        used = {span: row.calls for span, row in rows.items()}
        full = [window for window in windows if self._is_full(window, used, windows[0], asking=asking)]
        if full:
            last = max(full, key=lambda window: window.ends_at)
            who = "asking may make" if asking else f"{self.account} allows"
            raise NotBookedError(
                f"the calls that {who} in this {last.span} are used up: it goes on at "
                f"{last.ends_at.isoformat(timespec='seconds')}",
                retry_after_seconds=max((last.ends_at - now).total_seconds(), 0.001),
            )
        ids = [row.id for row in rows.values()]
        connection.execute(update(CallRow).where(CallRow.id.in_(ids)).values(calls=CallRow.calls + 1))
        if used[windows[0].span] == 0 or used.get(Span.DAY) == 0:
            self._forget(connection, now)
        return ids

    def unbook(self, connection: Connection, booked: list[int]) -> None:
        """Give places back: the call never left this machine."""
        connection.execute(
            update(CallRow).where(CallRow.id.in_(booked), CallRow.calls > 0).values(calls=CallRow.calls - 1)
        )

    def left(self, connection: Connection, now: datetime) -> tuple[Left, ...]:
        """What is left in each window that has a limit, the longest first."""
        found = []
        for window in windows_of(self.limits, now):
            if window.limit is None:
                continue
            used = connection.scalar(
                select(CallRow.calls).where(
                    CallRow.account == self.account,
                    CallRow.span == window.span,
                    CallRow.begins_at == window.begins_at,
                )
            )
            found.append(Left(window.span, window.limit, max(window.limit - (used or 0), 0), window.ends_at))
        return tuple(found)

    def _is_full(self, window: Window, used: dict[Span, int], longest: Window, *, asking: bool) -> bool:
        if window.limit is None:
            return asking and used[window.span] >= self._share_of_day(window, used, longest)
        limit = _for_asking(window.limit, self.limits) if asking else window.limit
        return used[window.span] >= limit

    def _share_of_day(self, day: Window, used: dict[Span, int], month: Window) -> int:
        """How many calls may have been made today when asking stops, so that the month lasts to its end."""
        assert month.limit is not None, "days are counted where a month has a limit"
        before_today = used[Span.MONTH] - used[Span.DAY]
        rest = _for_asking(month.limit, self.limits) - before_today
        days = max(1, math.ceil((month.ends_at - day.begins_at) / _DAY))
        return max(0, math.ceil(rest / days))

    def _forget(self, connection: Connection, now: datetime) -> None:
        over = [and_(CallRow.span == span, CallRow.begins_at < now - kept) for span, kept in _KEPT.items()]
        connection.execute(delete(CallRow).where(CallRow.account == self.account, or_(*over)))


def _place(window: Window) -> dict[str, object]:
    return {"span": window.span, "begins_at": window.begins_at}


def _for_asking(limit: int, limits: Limits) -> int:
    """What asking may use of a limit: never nothing at all."""
    return max(1, math.floor(limit * (1 - limits.reserve) + 1e-9))


def windows_of(limits: Limits, now: datetime) -> Iterator[Window]:
    """The windows that a call at this instant, in UTC, falls into, the longest first."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if limits.per_month is not None:
        begins_at = _month_begin(day, limits.month_begins_on)
        ends_at = _month_begin(begins_at + 40 * _DAY, limits.month_begins_on)
        yield Window(Span.MONTH, begins_at, ends_at, limits.per_month)
        yield Window(Span.DAY, day, day + _DAY, None)
    if limits.per_hour is not None:
        hour = now.replace(minute=0, second=0, microsecond=0)
        yield Window(Span.HOUR, hour, hour + timedelta(hours=1), limits.per_hour)
    if limits.per_minute is not None:
        minute = now.replace(second=0, microsecond=0)
        yield Window(Span.MINUTE, minute, minute + timedelta(minutes=1), limits.per_minute)
    if limits.per_second is not None:
        second = now.replace(microsecond=0)
        yield Window(Span.SECOND, second, second + timedelta(seconds=1), limits.per_second)


def _month_begin(day: datetime, begins_on: int) -> datetime:
    """The last midnight up to `day` at which a month begins."""
    if day.day < begins_on:
        day = day.replace(day=1) - _DAY
    return day.replace(day=begins_on)


def possible_a_day(limits: Limits, now: datetime) -> float:
    """How many calls asking may make on an ordinary day; infinite without limits."""
    day = timedelta(days=1)
    return min(
        (
            _for_asking(window.limit, limits) * (day / (window.ends_at - window.begins_at))
            for window in windows_of(limits, now)
            if window.limit is not None
        ),
        default=math.inf,
    )


def ask_every_seconds(connection: Connection, provider: str, limits: Limits, now: datetime) -> float:
    """How often each subject of a provider is asked about: as often as is wanted, or as can be carried."""
    carried = polls.count_open(connection, provider, now) / possible_a_day(limits, now) * _DAY_SECONDS
    return max(limits.ask_interval_seconds, carried)


def figures(connection: Connection, provider: AnyProvider, now: datetime) -> Figures | None:
    """How a provider's budget stands; None when nothing is known of a limit."""
    limits = provider.limits
    if limits is None:
        return None
    count = polls.count_open(connection, provider.name, now)
    return Figures(
        provider=provider.name,
        open_subjects=count,
        wanted_a_day=count * _DAY_SECONDS / limits.ask_interval_seconds,
        possible_a_day=possible_a_day(limits, now),
        every_seconds=ask_every_seconds(connection, provider.name, limits, now),
        left=Budget(provider.name, limits).left(connection, now),
    )


def standing(connection: Connection, provider: AnyProvider, now: datetime) -> Standing | None:
    """How a provider's longest window stands; None when nothing is known of a limit."""
    found = figures(connection, provider, now)
    if found is None or provider.limits is None:
        return None
    longest = next((window for window in windows_of(provider.limits, now) if window.limit is not None), None)
    if longest is None:
        return Standing(needed=found.wanted_a_day, budget=None, spent=0)
    days = (longest.ends_at - longest.begins_at) / _DAY
    left = found.left[0]
    return Standing(needed=found.wanted_a_day * days, budget=left.limit, spent=left.limit - left.left)

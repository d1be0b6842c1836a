"""How many calls an account may make with a provider's API, and how often a subject may be asked about."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What one account may do; a limit of None is none.

    `month_begins_on` is the day, from 1 to 28, on which the provider counts a month afresh. `reserve` is the
    share of every limit, from 0 to below 1, that asking leaves to fetching and sending. A subject is asked
    about once in `ask_interval_seconds` at most, also when that fails.
    """

    per_second: int | None = None
    per_minute: int | None = None
    per_hour: int | None = None
    per_month: int | None = None
    month_begins_on: int = 1
    reserve: float = 0.2
    ask_interval_seconds: float = 86_400.0

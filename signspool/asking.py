"""How we stand with providers that we ask, for `signspool check`: our key, and the calls that are left."""

from __future__ import annotations

from collections.abc import Iterator

from processor import budget
from processor.operator import count_refused
from shared.clock import utc_now
from shared.errors import UnavailableError
from shared.settings import Settings, build_providers
from signspool.context import database_of
from signspool.finding import Finding, fail, ok, warn
from signspool.output import count_text


def asking(settings: Settings) -> Iterator[Finding]:
    """How we stand with providers whose key or calls may run out; the database says what was found last."""
    now = utc_now()
    try:
        with database_of(settings) as database, database.reading() as connection:
            for name, provider in build_providers(settings).items():
                refused = count_refused(connection, name)
                if refused:
                    yield fail(
                        f"provider {name}",
                        f"does not accept our key: {count_text(refused, 'thing')} waiting for that alone",
                        f"set the right key under [providers.{name}], then start the processor again",
                    )
                found = budget.figures(connection, provider, now)
                if found is not None and found.is_short:
                    yield _calls_are_short(found)
                elif found is not None and provider.polls:
                    yield ok(f"calls of {name}", _calls_text(found))
    except (UnavailableError, OSError):
        # The finding about the database says it.
        return


def _calls_are_short(found: budget.Figures) -> Finding:
    days = found.every_seconds / 86_400
    return warn(
        f"calls of {found.provider}",
        f"{_calls_text(found)}, {found.wanted_a_day:.1f} are wanted: each is asked about every {days:.1f} "
        "days only",
        "have the provider call back instead of being asked, or take a plan with more calls",
    )


def _calls_text(found: budget.Figures) -> str:
    left = "".join(f", {item.left} of {item.limit} left this {item.span}" for item in found.left[:1])
    return f"{found.open_subjects} asked about, {found.possible_a_day:.1f} calls a day for that{left}"

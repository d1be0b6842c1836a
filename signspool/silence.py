"""What `signspool check` finds of providers that say nothing: no callback, or no answer to a poll."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from processor.silence import last_callbacks, silence_limits, unanswered_since
from shared.errors import UnavailableError
from shared.settings import Settings, build_providers
from shared.settings.units import format_duration
from shared.spool import MARKER, Spool
from signspool.context import database_of
from signspool.finding import Finding, fail, ok
from signspool.output import age_text


def silent(settings: Settings, spool: Spool) -> Iterator[Finding]:
    """Look at when each provider was last heard of."""
    limits = silence_limits(settings.check, build_providers(settings).values())
    if not limits:
        return
    now = spool.clock.now()
    calling = [provider for provider, of in limits if of == "callbacks"]
    try:
        with database_of(settings) as database, database.reading() as connection:
            called_at = last_callbacks(
                connection, calling, since=now - timedelta(seconds=max(limits.values()))
            )
            unanswered = unanswered_since(connection, now)
    except (UnavailableError, OSError):
        # The finding about the database says it.
        return
    told = [
        finding
        for (provider, of), limit in limits.items()
        if (
            finding := _calls_nobody(provider, called_at, _made_at(spool), now, limit)
            if of == "callbacks"
            else _answers_nothing(provider, unanswered, now, limit)
        )
    ]
    yield from told
    if not told:
        yield ok("silence", _heard(called_at, now))


def _calls_nobody(
    provider: str, called_at: Mapping[str, datetime], made_at: datetime, now: datetime, limit_seconds: float
) -> Finding | None:
    since = called_at.get(provider)
    # Nothing was to be heard before there was a spool.
    silent_seconds = (now - (since or made_at)).total_seconds()
    if silent_seconds <= limit_seconds:
        return None
    limit = format_duration(limit_seconds)
    known = f"no callback for {age_text(silent_seconds)}, longer than {limit}"
    return fail(
        f"silence of {provider}",
        known if since else f"no callback in more than {limit}",
        "look at its console whether it still calls us, and try the address from outside: curl -i "
        f"'https://HOST/api/callback?provider={provider}'; if it is seldom used: silence_by_provider = "
        f"{{ {provider} = 0 }} under [check]",
    )


def _answers_nothing(
    provider: str, unanswered: Mapping[str, datetime], now: datetime, limit_seconds: float
) -> Finding | None:
    since = unanswered.get(provider)
    if since is None or (now - since).total_seconds() <= limit_seconds:
        return None
    return fail(
        f"silence of {provider}",
        f"has answered nothing that it was asked for {age_text((now - since).total_seconds())}, longer than "
        f"{format_duration(limit_seconds)}",
        f"signspool polls ls --provider {provider} says how it stands; is the processor running?",
    )


def _heard(called_at: Mapping[str, datetime], now: datetime) -> str:
    ages = [f"{provider} {age_text((now - at).total_seconds())}" for provider, at in called_at.items()]
    return f"last callbacks, ago: {', '.join(ages)}" if ages else "nobody is missed yet"


def _made_at(spool: Spool) -> datetime:
    """When the spool was made; now, if that is not to be had."""
    try:
        return datetime.fromtimestamp((spool.root / MARKER).stat().st_mtime, UTC)
    except OSError:
        return spool.clock.now()

"""Looking at the tiers that run, for `signspool check`."""

from __future__ import annotations

from collections.abc import Iterator

from shared.errors import UnavailableError
from shared.settings import Settings
from shared.spool import Spool
from signspool import health
from signspool.context import database_of
from signspool.finding import Finding, fail, ok, warn
from signspool.output import age_text


def running_tiers(settings: Settings, spool: Spool) -> Iterator[Finding]:
    """What the tiers say of themselves, and, without that, how old their work is."""
    ports = {"api": settings.metrics.api_port, "processor": settings.metrics.processor_port}
    silent = []
    for tier, port in ports.items():
        answer = health.ask(settings, port) if port is not None else None
        if answer is not None:
            yield (
                ok(tier, answer.text) if answer.is_well else fail(tier, answer.text, "see docs/runbook.md")
            )
        elif port is not None:
            silent.append(tier)
            yield warn(tier, f"does not answer on its private port {port}", f"start it: signspool {tier}")
    if ports["processor"] is None or "processor" in silent:
        yield from _undone(settings, spool)


def _undone(settings: Settings, spool: Spool) -> Iterator[Finding]:
    try:
        with database_of(settings) as database:
            about, seconds = health.oldest_undone(settings, spool, database)
    except (UnavailableError, OSError):
        return  # The database was told of above.
    if seconds > settings.metrics.late_after:
        yield warn(
            "work",
            f"{about}: something has been due for {age_text(seconds)}",
            "is the processor running?",
        )
    else:
        yield ok("work", "nothing is late")

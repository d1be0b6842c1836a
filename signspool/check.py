"""`signspool check`: everything that can be looked at before relying on an installation, a line each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.errors import SettingsError, UsageError
from signspool.context import Config, Json, settings_of
from signspool.output import print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from signspool.finding import Finding

_REMIND_SECONDS = 86_400.0
"""When wrong settings, which cannot say it, are told again."""


def check(
    context: typer.Context,
    *,
    init_spool: Annotated[
        bool,
        typer.Option(
            "--init-spool", help="Make the root a spool although it is there already, and repair one."
        ),
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Connect to no provider and no destination.")
    ] = False,
    remember: Annotated[
        Path | None,
        typer.Option(
            "--remember",
            metavar="FILE",
            help="For a timer: say only what began to fail or ended since the last time; FILE remembers it.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Check settings, folders, rights, disk, clocks, database, providers, destinations, certificates, secrets
    and evidence, and what has waited or been silent for too long; exit 1 when one fails.

    What is too long is set under [check]. Providers and destinations are connected to, with no secret and no
    effect, unless --offline.

    A root that is not there at all is made, unless a timer asks (--remember). One that is there without our
    marker may be a volume that is not mounted, so it is made a spool only with --init-spool.

    Example: signspool check
    """
    if remember is not None and as_json:
        raise UsageError("--remember says what has changed, in lines: leave out --json")
    from signspool.finding import Level, fail  # noqa: PLC0415
    from signspool.findings import findings  # noqa: PLC0415  (looks at everything, so needs everything)

    remind_seconds = _REMIND_SECONDS
    try:
        settings = settings_of(context, config)
    except SettingsError as error:
        if remember is None:
            raise
        # Else the timer would tell of them each time.
        found = [fail("settings", "; ".join(str(error).splitlines()))]
    else:
        remind_seconds = settings.check.remind
        found = list(findings(settings, init_spool=init_spool, offline=offline, makes_root=remember is None))
    failed = sum(item.level is Level.FAIL for item in found)
    if remember is not None:
        failed += _say_changes(remember, found, remind_seconds)
    elif as_json:
        print_json([item.as_json() for item in found])
    else:
        print_table(("", "about", "finding"), [(item.level, item.about, item.words) for item in found])
        warned = sum(item.level is Level.WARN for item in found)
        say(f"{len(found) - failed - warned} ok, {warned} warn, {failed} FAIL")
    if failed:
        raise typer.Exit(1)


def _say_changes(path: Path, found: Sequence[Finding], remind_seconds: float) -> int:
    """Say what has changed; to the journal, which can tell lines apart, also what goes on.

    Returns how many faults were told.
    """
    from shared.clock import utc_now  # noqa: PLC0415
    from shared.logs import is_journal  # noqa: PLC0415
    from signspool.remembering import Memory, Weight  # noqa: PLC0415

    lines = Memory(path).compare(found, utc_now(), remind_seconds=remind_seconds)
    for line in lines:
        if is_journal(sys.stdout):
            say(f"<{line.weight:d}>{line.text}")
        elif line.weight is not Weight.STANDING:
            say(line.text)
    return sum(line.weight is Weight.FAULT for line in lines)

"""`signspool check`: everything that can be looked at before relying on an installation, a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from signspool.context import Config, Json, settings_of
from signspool.output import print_json, print_table, say

if TYPE_CHECKING:
    from signspool.finding import Finding


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
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Check settings, folders, rights, disk, clocks, database, providers, destinations, certificates, secrets
    and evidence; exit 1 when one fails.

    Providers and destinations are connected to, with no secret and no effect, unless --offline.

    A root that is not there at all is made. One that is there without our marker may be a volume that is not
    mounted, so it is made a spool only with --init-spool.

    Example: signspool check
    """
    settings = settings_of(context, config)
    from signspool.finding import Level  # noqa: PLC0415
    from signspool.findings import findings  # noqa: PLC0415  (looks at everything, so needs everything)

    found = list(findings(settings, init_spool=init_spool, offline=offline))
    failed = sum(item.level is Level.FAIL for item in found)
    if as_json:
        print_json([item.as_json() for item in found])
    else:
        print_table(("", "about", "finding"), [(item.level, item.about, _words(item)) for item in found])
        warned = sum(item.level is Level.WARN for item in found)
        say(f"{len(found) - failed - warned} ok, {warned} warn, {failed} FAIL")
    if failed:
        raise typer.Exit(1)


def _words(item: Finding) -> str:
    return f"{item.text}: {item.what_to_do}" if item.what_to_do else item.text

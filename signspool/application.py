"""The Typer application: one module for each noun, put together."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from shared import hangup
from signspool import (
    check,
    database,
    deliveries,
    documents,
    manual,
    polls,
    providers,
    retention,
    settings,
    spool,
    tiers,
    up,
)
from signspool.completion import completion
from signspool.context import Config, remember_config
from signspool.demo.command import demo

_RELOADING = ("api", "processor")
"""Commands that listen to SIGHUP themselves, once they can obey; the others end by it."""

# Plain help starts fast and reads the same everywhere. Tracebacks of Typer's show local variables, and with
# them secrets.
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("signspool"))
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config: Config = None,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and end."),
    ] = False,
) -> None:
    """Take every e-signature callback, lose none, and deliver the signed documents.

    Exit codes: 0 good, 1 something is wrong or was not found, 2 wrong use.
    """
    remember_config(context, config)
    if context.invoked_subcommand not in _RELOADING:
        hangup.release()


app.command()(up.up)
app.command()(tiers.api)
app.command()(tiers.processor)
app.command()(check.check)
app.add_typer(spool.group, name="spool")
app.add_typer(documents.group, name="documents")
app.add_typer(deliveries.group, name="deliveries")
app.add_typer(polls.group, name="polls")
app.add_typer(providers.group, name="providers")
app.add_typer(database.group, name="db")
app.add_typer(settings.group, name="settings")
app.command()(manual.man)
app.command()(completion)
app.command()(retention.retention)
app.command()(tiers.simulate)
app.command()(demo)

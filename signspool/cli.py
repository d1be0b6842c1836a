"""The `signspool` command: one Typer application, a module for each noun, and the place where errors end."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from shared.errors import SettingsError, SignspoolError, UsageError
from signspool import check, database, deliveries, documents, providers, settings, spool, tiers, up
from signspool.context import Config, remember_config
from signspool.demo.command import demo
from signspool.output import complain

WRONG, MISUSED, INTERRUPTED = 1, 2, 130

# Plain help starts fast and reads the same everywhere. Tracebacks of Typer's show local variables, and with
# them secrets.
app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False
)


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


app.command()(up.up)
app.command()(tiers.api)
app.command()(tiers.processor)
app.command()(check.check)
app.add_typer(spool.group, name="spool")
app.add_typer(documents.group, name="documents")
app.add_typer(deliveries.group, name="deliveries")
app.add_typer(providers.group, name="providers")
app.add_typer(database.group, name="db")
app.add_typer(settings.group, name="settings")
app.command()(tiers.simulate)
app.command()(demo)


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code. Every deliberate error becomes a line on standard error."""
    try:
        app(list(arguments), prog_name="signspool")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except (SettingsError, UsageError) as error:
        complain(str(error))
        return MISUSED
    except (SignspoolError, OSError) as error:
        complain(str(error))
        return WRONG
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def main() -> None:
    """The entry point."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a letter still shows the rest.
            stream.reconfigure(errors="backslashreplace")
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has enough; the interpreter must not try to flush it again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or WRONG
    sys.exit(code)

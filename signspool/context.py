"""What every command shares: `--config` and `--json`, and the way from the settings to spool and database."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.errors import SchemaError, UsageError
from signspool.completion import provider_names

if TYPE_CHECKING:
    from shared.db.session import Database
    from shared.settings import Settings
    from shared.spool import Spool

_CONFIG = "signspool.config"

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="PATH", help="Settings file.", show_default=False, is_eager=True),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of a table.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Print this many at most.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
ProviderName = Annotated[
    str,
    typer.Argument(metavar="PROVIDER", help="Provider, as in the settings.", autocompletion=provider_names),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]


def new_group(help_text: str) -> typer.Typer:
    """A noun whose verbs are commands; takes `--config` before the verb too."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.callback(help=help_text)(remember_config)
    return group


def remember_config(context: typer.Context, config: Config = None) -> None:
    """Keep a `--config` that stands before the command's name."""
    if config is not None:
        context.meta[_CONFIG] = config


def config_of(context: typer.Context, config: Path | None) -> Path | None:
    """The settings file that was named: behind the command, or before it."""
    return config if config is not None else context.meta.get(_CONFIG)


def settings_of(
    context: typer.Context, config: Path | None, *, without: Collection[str] = (), **overrides: Any
) -> Settings:
    """The settings, as `read_settings` gives them; the log follows them from now on.

    Every command has them from here, so that what it logs, and what it repeats of a peer, holds none of
    their secrets, and standard output is its own.

    Raises:
        SettingsError: something is wrong with them.
    """
    from shared import logs  # noqa: PLC0415  (slow to import, and `--help` needs none)
    from shared.settings import secret_values  # noqa: PLC0415

    settings = read_settings(context, config, without=without, **overrides)
    logs.configure(settings.log.format, settings.log.level, secrets=secret_values(settings))
    return settings


def read_settings(
    context: typer.Context, config: Path | None, *, without: Collection[str] = (), **overrides: Any
) -> Settings:
    """The settings, with what the command line says; dots of a key are written as two underscores.

    Sections in `without` are not looked at.

    Raises:
        SettingsError: something is wrong with them.
    """
    from shared.settings import load_settings  # noqa: PLC0415

    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return load_settings(config_of(context, config), overrides=dotted, without=without)


def spool_of(settings: Settings) -> Spool:
    """The spool that the settings name.

    Raises:
        SpoolUnavailableError: there is none.
    """
    from shared.clock import Clock  # noqa: PLC0415
    from shared.spool import Spool  # noqa: PLC0415

    spool = Spool(settings.spool.root, Clock.in_zone(settings.spool.timezone))
    spool.id()
    return spool


def expect_owner(spool: Spool) -> None:
    """Return when the service can use the files that this user makes.

    Raises:
        UsageError: the spool belongs to another user.
    """
    from signspool.machine import other_owner  # noqa: PLC0415

    owner = other_owner(spool.root)
    if owner is not None:
        raise UsageError(f"the spool belongs to {owner}, who could not use what is made now: sudo -u {owner}")


def confirm(question: str, *, yes: bool, dry_run: bool) -> None:
    """Return when a change of many things is wanted: by `--yes`, by an answer on the terminal, or not at all
    since it is a dry run.

    Raises:
        UsageError: nobody is there to be asked, or the answer was no.
    """
    if yes or dry_run:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Look first with --dry-run, then say --yes")
    try:
        wanted = typer.confirm(question, err=True)
    except typer.Abort:
        # Ctrl-C or Ctrl-D, which is no fault and has its own exit code.
        raise KeyboardInterrupt from None
    if not wanted:
        raise UsageError("nothing was done")


@contextmanager
def database_of(settings: Settings) -> Iterator[Database]:
    """The database that the settings name, of this program's schema.

    Raises:
        SchemaError: its tables are of another version, or there are none.
        DatabaseUnavailableError: it does not answer.
    """
    from shared.db.session import Database  # noqa: PLC0415  (SQLAlchemy is slow to import)

    expect_file(settings)
    database = Database(settings.database_url)
    try:
        database.check_schema()
        yield database
    finally:
        database.close()


def expect_file(settings: Settings) -> None:
    """Return when an SQLite database is there; to open one that is not would make it.

    Raises:
        SchemaError: it is not.
    """
    url = settings.database_url
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        expect_not_taken_away(settings)
        raise SchemaError(f"there is no database at {url.database} yet; type: signspool db upgrade")


def expect_not_taken_away(settings: Settings) -> None:
    """Return unless an SQLite database was moved away from beside its log: a new one would be given what
    stands there, and take it from the one that comes back.

    Raises:
        SchemaError: so it is.
    """
    url = settings.database_url
    if url.get_backend_name() != "sqlite":
        return
    file = Path(url.database or "")
    if not file.exists() and file.with_name(f"{file.name}-wal").exists():
        raise SchemaError(
            f"the database {file} was taken away, and its log {file.name}-wal is still there: put it back; "
            "to begin anew, stop the processor, and move that log and its -shm away, too"
        )

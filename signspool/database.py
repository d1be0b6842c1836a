"""`signspool db`: the tables."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.errors import DatabaseUnavailableError, SchemaError, UsageError
from signspool.context import Config, expect_not_taken_away, new_group, settings_of
from signspool.output import complain, say

if TYPE_CHECKING:
    from shared.settings import Settings

_PAUSE_SECONDS = 1.0
"""Between two tries, while a database is waited for."""

group = new_group("The database: its tables and their version.")


def bring_up_to_date(settings: Settings) -> tuple[str | None, str]:
    """Bring the tables to this program's version; returns the versions before and after.

    Raises:
        SchemaError: a newer signspool made them, or the database was taken away from beside its log.
        DatabaseUnavailableError: the database does not answer.
    """
    from alembic.util import CommandError  # noqa: PLC0415  (slow to import)

    from shared.db.session import SCHEMA, Database  # noqa: PLC0415

    url = settings.database_url
    folder = Path(url.database or "").parent
    if url.get_backend_name() == "sqlite" and not folder.exists():
        raise DatabaseUnavailableError(
            f"the folder {folder} for the database is not there: make it, or the spool first: signspool check"
        )
    expect_not_taken_away(settings)
    database = Database(url)
    try:
        before = database.schema_version()
        try:
            database.upgrade()
        except CommandError:
            # A version that Alembic does not know; the check says so in words for people.
            database.check_schema()
            raise
        return before, SCHEMA
    finally:
        database.close()


@group.command("upgrade")
def upgrade(
    context: typer.Context,
    *,
    wait: Annotated[
        str,
        typer.Option("--wait", metavar="TIME", help="Wait so long for a database that does not answer yet."),
    ] = "0s",
    config: Config = None,
) -> None:
    """Bring the tables to the version of this program, or make them; nothing happens when they are.

    Example: signspool db upgrade --wait 2m
    """
    wait_seconds = _duration(wait)
    settings = settings_of(context, config)
    before, after = _as_soon_as_it_answers(settings, wait_seconds)
    where = settings.database_url.render_as_string(hide_password=True)
    if before == after:
        say(f"{where} has schema {after} already")
    else:
        say(f"{where}: from schema {before or 'none'} to {after}")


def _as_soon_as_it_answers(settings: Settings, wait_seconds: float) -> tuple[str | None, str]:
    ends_at = time.monotonic() + wait_seconds
    said = ""
    while True:
        try:
            return bring_up_to_date(settings)
        except SchemaError:
            # Somebody has to install another version; time mends nothing.
            raise
        except DatabaseUnavailableError as error:
            if time.monotonic() + _PAUSE_SECONDS > ends_at:
                raise
            if str(error) != said:
                said = str(error)
                complain(f"{said}; it is tried again for {wait_seconds:g} seconds at most")
        time.sleep(_PAUSE_SECONDS)


def _duration(text: str) -> float:
    from shared.settings.units import parse_duration  # noqa: PLC0415  (`--help` needs no settings)

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--wait {text}: {error}") from None

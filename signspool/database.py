"""`signspool db`: the tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from shared.errors import DatabaseUnavailableError
from signspool.context import Config, new_group, settings_of
from signspool.output import say

if TYPE_CHECKING:
    from shared.settings import Settings

group = new_group("The database: its tables and their version.")


def bring_up_to_date(settings: Settings) -> tuple[str | None, str]:
    """Bring the tables to this program's version; returns the versions before and after.

    Raises:
        SchemaError: a newer signspool made them.
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
def upgrade(context: typer.Context, config: Config = None) -> None:
    """Bring the tables to the version of this program, or make them; nothing happens when they are.

    Example: signspool db upgrade
    """
    settings = settings_of(context, config)
    before, after = bring_up_to_date(settings)
    where = settings.database_url.render_as_string(hide_password=True)
    if before == after:
        say(f"{where} has schema {after} already")
    else:
        say(f"{where}: from schema {before or 'none'} to {after}")

"""`signspool polls`: what providers are asked about, listed and asked at once."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from shared.errors import UsageError
from signspool.context import Config, Json, Limit, database_of, new_group, settings_of
from signspool.output import print_json, print_table, say, shortened

group = new_group("What providers are asked about: sessions, processes, queues.")


@group.command("ls")
def list_polls(
    context: typer.Context,
    *,
    provider: Annotated[str | None, typer.Option("--provider", help="Of this provider only.")] = None,
    limit: Limit = 100,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """List what is asked about: what is due next in front, what is asked no more at the end.

    Example: signspool polls ls --provider NAME
    """
    from processor import polls  # noqa: PLC0415  (SQLAlchemy is slow to import)

    with database_of(settings_of(context, config)) as database, database.reading() as connection:
        rows = [_shown(row) for row in polls.listing(connection, provider, limit)]
    if as_json:
        print_json(rows)
        return
    names = ("provider", "subject", "next_at", "asked_at", "expires_at", "failures", "note")
    titles = ("provider", "subject", "next", "last", "expires", "failures", "how it stands")
    print_table(titles, [tuple(row[name] for name in names) for row in rows])


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat(timespec="seconds") if isinstance(value, datetime) else value
        for name, value in row.items()
    }


@group.command("ask")
def ask(
    context: typer.Context,
    *,
    provider: Annotated[str, typer.Argument(help="Provider, as in the settings.")],
    subject: Annotated[str, typer.Argument(help="What is asked about, as `polls ls` shows it.")],
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Have the processor ask about something at once, be it over or not due for long.

    It counts among the calls that the provider allows, and waits while those are used up.

    Example: signspool polls ask PROVIDER SUBJECT
    """
    from processor import polls  # noqa: PLC0415  (SQLAlchemy is slow to import)
    from shared.clock import utc_now  # noqa: PLC0415
    from shared.providers._asking import WISH, Ask  # noqa: PLC0415
    from shared.settings import build_providers  # noqa: PLC0415

    settings = settings_of(context, config)
    configured = build_providers(settings).get(provider)
    if configured is None:
        raise UsageError(f"provider {provider} is not configured: add [providers.{provider}]")
    if not configured.polls:
        raise UsageError(f"{configured.title} cannot be asked: it calls")
    with database_of(settings) as database, database.transaction() as connection:
        if not polls.is_known(connection, provider, subject):
            raise UsageError(
                f"nothing is known of {shortened(subject)}: signspool documents register {provider} ID"
            )
        polls.begin(connection, provider, [Ask(subject, {WISH: "hand"})], utc_now())
    if as_json:
        print_json({"provider": provider, "subject": subject, "due": "now"})
    else:
        say(f"{provider} {shortened(subject)}: due now")

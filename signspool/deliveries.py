"""`signspool deliveries`: what is owed, listed and started afresh."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from shared.errors import UsageError
from signspool.completion import provider_names
from signspool.context import (
    Config,
    DryRun,
    Json,
    Limit,
    confirm,
    database_of,
    new_group,
    settings_of,
    spool_of,
)
from signspool.output import complain, count_text, print_json, print_table, say, shortened

group = new_group("What is owed: fetching, deliveries, workflow steps, the company's own table.")


_LARGEST_ID = 2**63 - 1
"""No database counts further."""


class DeliveryState(StrEnum):
    """The values of `shared.db.models.State`; importing those would bring SQLAlchemy into every `--help`."""

    DUE = "due"
    WAITING = "waiting"
    HELD = "held"
    FAILED = "failed"
    DONE = "done"


class RetriedState(StrEnum):
    """The states that `retry` takes in place of ids."""

    HELD = "held"
    FAILED = "failed"
    WAITING = "waiting"


Destination = Annotated[
    str | None, typer.Option("--destination", help="To this destination, or from this provider, only.")
]
Provider = Annotated[
    str | None,
    typer.Option("--provider", help="For documents of this provider only.", autocompletion=provider_names),
]
Document = Annotated[str | None, typer.Option("--document", help="For this document only.")]


@group.command("ls")
def list_deliveries(
    context: typer.Context,
    *,
    states: Annotated[
        list[DeliveryState] | None, typer.Option("--state", help="In this state only; may be repeated.")
    ] = None,
    destination: Destination = None,
    provider: Provider = None,
    document: Document = None,
    limit: Limit = 100,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """List what is owed and what was done, the newest first.

    Example: signspool deliveries ls --state held --state failed
    """
    from processor import deliveries  # noqa: PLC0415  (SQLAlchemy is slow to import)
    from shared.db.models import State  # noqa: PLC0415
    from signspool.waits import files_elsewhere, reasons_to_wait, what_may_block  # noqa: PLC0415

    wanted = deliveries.Wanted(
        states=tuple(map(State, states or ())),
        destination=destination,
        provider=provider,
        document_id=document,
    )
    settings = settings_of(context, config)
    with database_of(settings) as database, database.reading() as connection:
        rows = deliveries.listing(connection, wanted, limit=limit)
        reasons = {} if as_json else reasons_to_wait(rows, what_may_block(connection, rows))
    if as_json:
        print_json(rows)
        return
    if any(row["file_spool"] for row in rows):
        reasons |= files_elsewhere(rows, spool_of(settings).id())
    print_table(
        ("id", "task", "to or from", "provider", "document", "state", "attempts", "next", "reason"),
        [
            (
                row["id"],
                row["task"],
                row["destination"],
                row["provider"],
                row["document_id"],
                row["state"],
                row["attempts"],
                row["next_attempt_at"],
                reasons.get(row["id"], row["last_error"]),
            )
            for row in rows
        ],
    )


@group.command("retry")
def retry_deliveries(
    context: typer.Context,
    *,
    ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="[ID]...", min=1, max=_LARGEST_ID, help="Ids, as `deliveries ls` shows."),
    ] = None,
    state: Annotated[
        RetriedState | None, typer.Option("--state", help="Everything in this state, in place of ids.")
    ] = None,
    destination: Destination = None,
    provider: Provider = None,
    document: Document = None,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Do it without asking; of what is held: it may happen a second time."),
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Start owed things afresh, with all their attempts; files in quarantine go back to deferred/.

    With --state it asks first, or wants --yes. What is held may have happened already, so it takes an
    explicit id, or --yes.

    Example: signspool deliveries retry 17 18
    """
    if bool(ids) == bool(state):
        raise UsageError("give either ids, or --state held, failed or waiting")
    if state is RetriedState.HELD and not yes and not dry_run:
        raise UsageError(
            "what is held may have happened already and would happen twice: look at it with "
            "signspool deliveries ls --state held, then name its ids, or say --yes"
        )
    from processor.agreed import agreed_now  # noqa: PLC0415
    from processor.deliveries import Wanted  # noqa: PLC0415
    from processor.operator import retry  # noqa: PLC0415
    from shared.db.models import State  # noqa: PLC0415

    settings = settings_of(context, config)
    wanted = Wanted(tuple(ids or ()), (State(state),) if state else (), destination, provider, document)
    with database_of(settings) as database:
        spool, now = spool_of(settings), agreed_now(database)
        if state is not None and not yes and not dry_run:
            count = len(retry(database, spool, wanted, now, dry_run=True).afresh)
            confirm(f"This would start {count_text(count, 'delivery')} afresh.", yes=yes, dry_run=dry_run)
        found = retry(database, spool, wanted, now, dry_run=dry_run)
    known = {row["id"] for row in (*found.afresh, *found.left_alone)}
    missing = [number for number in ids or () if number not in known]
    if as_json:
        retried = [row["id"] for row in found.afresh]
        left_alone = [row["id"] for row in found.left_alone]
        print_json({"retried": retried, "left_alone": left_alone, "unknown": missing, "dry_run": dry_run})
    else:
        for row in found.afresh:
            say(f"{'would retry' if dry_run else 'due now'}: {_line(row)}")
        for row in found.left_alone:
            say(f"left alone, done or being worked on: {_line(row)}")
        say(f"{count_text(len(found.afresh), 'delivery')} {'to retry' if dry_run else 'started afresh'}")
    for number in missing:
        complain(f"there is no delivery {number} that fits: signspool deliveries ls lists them")
    if missing:
        raise typer.Exit(1)


@group.command("refetch")
def refetch_deliveries(
    context: typer.Context,
    *,
    ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="[ID]...", min=1, max=_LARGEST_ID, help="Ids, as `deliveries ls` shows."),
    ] = None,
    file_spool: Annotated[
        str | None,
        typer.Option(
            "--spool", metavar="ID", help="Everything whose file lies in this spool, in place of ids."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Have signed files fetched again, for a machine that does not come back.

    A fetched file lies on one machine, and only that one delivers it. This fetches the files of undone
    deliveries from the provider once more, on whichever machine comes first. What is held stays held.

    Example: signspool deliveries refetch 7 --dry-run
    """
    from processor.agreed import agreed_now  # noqa: PLC0415
    from processor.deliveries import Wanted, undelivered_by_spool  # noqa: PLC0415
    from processor.operator import refetch  # noqa: PLC0415

    with database_of(settings_of(context, config)) as database:
        if bool(ids) == bool(file_spool):
            with database.reading() as connection:
                waiting = undelivered_by_spool(connection)
            where = ", ".join(f"{name} ({count})" for name, count in sorted(waiting.items())) or "no spool"
            raise UsageError(f"give either ids, or --spool; files wait to be delivered in: {where}")
        wanted = Wanted(tuple(ids or ()), file_spool=file_spool)
        found = refetch(database, wanted, agreed_now(database), dry_run=dry_run)
    if as_json:
        print_json(
            {
                "refetched": [row["id"] for row in found.afresh],
                "left_alone": [row["id"] for row in found.left_alone],
                "dry_run": dry_run,
            }
        )
        return
    for row in found.afresh:
        say(f"{'would be' if dry_run else 'is'} fetched again: {_line(row)}")
    for row in found.left_alone:
        say(f"left alone, being worked on: {_line(row)}")
    files = f"the files of {count_text(len(found.afresh), 'delivery')}"
    say(f"{files} to fetch again" if dry_run else f"{files} are fetched again")


def _line(row: dict[str, Any]) -> str:
    document = f"{row['provider']} {shortened(row['document_id'])}"
    return f"{row['id']} {row['task']} ({row['destination']}) of {document}, was {row['state']}"

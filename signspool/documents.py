"""`signspool documents`: what is known of documents, and telling it what was sent out for signature."""

from __future__ import annotations

import sys
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.errors import UnavailableError, UsageError
from shared.events import DocumentStatus
from signspool import erasing
from signspool.completion import provider_names
from signspool.context import (
    Config,
    Json,
    Limit,
    ProviderName,
    database_of,
    new_group,
    settings_of,
    spool_of,
)
from signspool.output import complain, count_text, print_json, print_table, say, shortened
from signspool.sending import cancel_command, send_command

if TYPE_CHECKING:
    from shared.settings import Settings

_MESSAGE_LENGTH = 1000
"""What a provider tells with an event may be of any length, and is for reading."""

group = new_group("What is known of documents; register tells of one that was sent out for signature.")
group.command("send")(send_command)
group.command("cancel")(cancel_command)


@group.command("ls")
def list_documents(
    context: typer.Context,
    *,
    provider: Annotated[
        str | None,
        typer.Option("--provider", help="Of this provider only.", autocompletion=provider_names),
    ] = None,
    status: Annotated[DocumentStatus | None, typer.Option("--status", help="Of this status only.")] = None,
    limit: Limit = 100,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """List documents, the ones with the latest news first.

    Example: signspool documents ls --status completed
    """
    from processor import documents  # noqa: PLC0415  (SQLAlchemy is slow to import)

    with database_of(settings_of(context, config)) as database, database.reading() as connection:
        rows = documents.listing(connection, provider=provider, status=status, limit=limit)
    if as_json:
        print_json(rows)
        return
    print_table(
        ("provider", "document", "status", "since", "registered", "unfinished"),
        [
            (
                row["provider"],
                row["document_id"],
                row["status"],
                _moment(row["status_at"] or row["created_at"]),
                "yes" if row["registered_at"] else "no",
                row["unfinished"] or "",
            )
            for row in rows
        ],
    )


@group.command("show")
def show_document(
    context: typer.Context,
    *,
    provider: ProviderName,
    document_id: Annotated[str, typer.Argument(metavar="ID", help="The provider's id of the document.")],
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Show everything about one document: status, history, files, deliveries, and what is still owed.

    Example: signspool documents show PROVIDER 155
    """
    from processor import documents  # noqa: PLC0415

    settings = settings_of(context, config)
    with database_of(settings) as database, database.reading() as connection:
        document = documents.show(connection, provider, document_id)
    if document is None:
        complain(
            f"no document {shortened(document_id)} of {provider} is known: no callback of it was recorded, "
            f"and nobody registered it. Look with: signspool spool show {shortened(document_id)}"
        )
        raise typer.Exit(1)
    document["entries"] = _entries(settings, document)
    if as_json:
        print_json(document)
    else:
        _print_document(document)


def _entries(settings: Settings, document: dict[str, Any]) -> dict[str, str]:
    """Where the document's entries lie, by day and name; without a spool nobody knows."""
    from signspool.whereabouts import whereabouts  # noqa: PLC0415

    names = list(dict.fromkeys(event["entry"] for event in document["events"]))
    try:
        return whereabouts(spool_of(settings), names)
    except UnavailableError as error:
        return dict.fromkeys(names, f"not known: {error}")


def _print_document(document: dict[str, Any]) -> None:
    from signspool.waits import reasons_to_wait  # noqa: PLC0415

    say(f"{document['provider']} {shortened(document['document_id'])}: {document['status']}")
    say(f"  since       {_moment(document['status_at'])}")
    say(f"  first heard {_moment(document['created_at'])}")
    say(f"  registered  {_moment(document['registered_at'])}")
    if document["erased_at"]:
        say(f"  erased      {_moment(document['erased_at'])}: its personal data, on request")
    if document["history_dropped_at"]:
        say(f"  history     dropped {_moment(document['history_dropped_at'])}: its time was over")
    for title, values in (("references", document["references"]), ("DMS", document["dms"])):
        say(f"  {title:11} {', '.join(f'{name}={value}' for name, value in values.items()) or '-'}")
    for place, (name, value) in enumerate(document["learned"].items()):
        say(f"  {'' if place else 'learned':11} {shortened(name)}={shortened(value)}")
    _section(
        "Events",
        ("received", "action", "meaning", "outcome", "status", "origin", "trust", "message"),
        [
            (
                _moment(event["received_at"]),
                event["action"],
                event["event_type"],
                event["outcome"],
                f"{event['status_before']} -> {event['status_after']}",
                event["origin"],
                event["trust"],
                shortened(event["message"], _MESSAGE_LENGTH),
            )
            for event in document["events"]
        ],
    )
    _section(
        "Entries", ("day and name", "lies in"), list(document["entries"].items()), names=("day and name",)
    )
    _section(
        "Files",
        ("kind", "name", "bytes", "sha256", "fetched"),
        [
            (file["kind"], file["name"], file["bytes"], file["sha256"], _moment(file["fetched_at"]))
            for file in document["files"]
        ],
        names=("name",),
    )
    done = [item for item in document["deliveries"] if item["state"] == "done"]
    _section(
        "Delivered",
        ("id", "task", "destination", "done", "sha256", "reference"),
        [
            (
                item["id"],
                item["task"],
                item["destination"],
                _moment(item["done_at"]),
                item["sha256"],
                item["remote_reference"] and shortened(item["remote_reference"], _MESSAGE_LENGTH),
            )
            for item in done
        ],
    )
    every = document["deliveries"] + document["owed"]
    owed = [item for item in every if item["state"] != "done"]
    reasons = reasons_to_wait(owed, sorted(owed, key=itemgetter("id")))
    _section(
        "Owed",
        ("id", "task", "to or from", "state", "attempts", "next", "reason"),
        [
            (
                item["id"],
                item["task"],
                item["destination"],
                item["state"],
                item["attempts"],
                _moment(item["next_attempt_at"]),
                reasons.get(item["id"], item["last_error"]),
            )
            for item in owed
        ],
    )


def _section(
    title: str, headings: tuple[str, ...], rows: list[tuple[Any, ...]], names: tuple[str, ...] = ()
) -> None:
    say("")
    if not rows:
        say(f"{title}: none")
        return
    say(title)
    print_table(headings, rows, names=names)


def _moment(instant: str | None) -> str:
    """An instant to the second, in the machine's own zone, for reading."""
    if instant is None:
        return "-"
    from datetime import datetime  # noqa: PLC0415

    return datetime.fromisoformat(instant).astimezone().isoformat(" ", timespec="seconds")


@group.command("register")
def register_document(
    context: typer.Context,
    *,
    provider: ProviderName,
    document_id: Annotated[str, typer.Argument(metavar="ID", help="The provider's id of the document.")],
    refs: Annotated[
        list[str] | None,
        typer.Option("--ref", metavar="NAME=VALUE", help="A reference of the provider's, to fetch by."),
    ] = None,
    dms: Annotated[
        list[str] | None,
        typer.Option("--dms", metavar="NAME=VALUE", help="A reference of the document management system."),
    ] = None,
    config: Config = None,
) -> None:
    """Tell of a document that was sent out for signature; the same again changes nothing.

    Example: signspool documents register PROVIDER 155 --ref file_ids=901
    """
    from processor.documents import Registration, check_registration, register  # noqa: PLC0415
    from shared.clock import utc_now  # noqa: PLC0415
    from shared.settings import build_providers  # noqa: PLC0415

    settings = settings_of(context, config)
    registration = Registration(provider, document_id, _pairs("--ref", refs), _pairs("--dms", dms))
    check_registration(registration)
    with database_of(settings) as database, database.transaction() as connection:
        result = register(connection, registration, utc_now(), build_providers(settings))
    say(f"{provider} {shortened(document_id)}: {result}")


def _pairs(option: str, texts: list[str] | None) -> dict[str, str]:
    """The values that repeated `NAME=VALUE` give.

    Raises:
        UsageError: one is not of that form, or a name comes twice.
    """
    pairs: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise UsageError(f"{option} {text}: write it like {option} NAME=VALUE")
        if name.strip() in pairs:
            raise UsageError(f"{option} {name.strip()} is given twice")
        pairs[name.strip()] = value.strip()
    return pairs


@group.command("import")
def import_documents(
    context: typer.Context,
    *,
    file: Annotated[str, typer.Argument(metavar="FILE", help="CSV or JSON lines; - is standard input.")],
    kind: Annotated[
        str | None,
        typer.Option("--format", metavar="csv|jsonl", help="Form of the file, if not as it looks."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file, and import nothing.")] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Register many documents from a file; all lines are checked first, and one fault imports nothing.

    The first line of a CSV names the columns: provider, document_id, ref.NAME, dms.NAME. A JSON line is
    {"provider": ..., "document_id": ..., "references": {...}, "dms": {...}}.

    Example: signspool documents import sent.csv --dry-run
    """
    from processor.operator import register_all  # noqa: PLC0415
    from shared.clock import utc_now  # noqa: PLC0415
    from shared.settings import build_providers  # noqa: PLC0415
    from signspool.registrations import Format, read_sheet  # noqa: PLC0415

    settings = settings_of(context, config)
    if kind is not None and kind not in tuple(Format):
        raise UsageError(f"--format {kind}: write csv or jsonl")
    sheet = read_sheet(_content(file), Format(kind) if kind else None)
    if sheet.faults:
        faults = "\n".join(sheet.faults)
        raise UsageError(f"{faults}\n{count_text(len(sheet.faults), 'fault')}: nothing was imported")
    counts = {"lines": len(sheet.registrations), "new": 0, "changed": 0, "unchanged": 0}
    if not dry_run:
        with database_of(settings) as database:
            counts |= register_all(database, sheet.registrations, utc_now(), build_providers(settings))
    if as_json:
        print_json({**counts, "dry_run": dry_run})
    elif dry_run:
        say(f"{count_text(counts['lines'], 'line')} in order; nothing was imported")
    else:
        say(f"new {counts['new']}, changed {counts['changed']}, unchanged {counts['unchanged']}")


group.command("erase")(erasing.erase)


def _content(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from None

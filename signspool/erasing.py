"""`signspool documents erase`: what is personal of one document goes, and what proves its handling stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.errors import UsageError
from shared.spool import Folder
from signspool.context import (
    Config,
    DryRun,
    Json,
    ProviderName,
    confirm,
    database_of,
    expect_owner,
    settings_of,
    spool_of,
)
from signspool.output import complain, count_text, print_json, say, shortened

if TYPE_CHECKING:
    from processor.erase import Traces
    from shared.db.session import Database
    from signspool.entries import Looker, Seen

_ROUNDS = 5
"""Times that the folders are looked through: beside a running daemon an entry may move meanwhile."""


def erase(
    context: typer.Context,
    *,
    provider: ProviderName,
    document_id: Annotated[str, typer.Argument(metavar="ID", help="The provider's id of the document.")],
    give_up: Annotated[
        bool, typer.Option("--give-up", help="Give up what is still owed: fetching, deliveries, steps.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Erase it; there is no way back.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Erase what is personal of one document: its callbacks in all folders, fetched files, texts of its rows.

    What stays is evidence: its id, statuses and times, and of callbacks and files their digests. Copies at
    the destinations are named, once; erase them there.

    Example: signspool documents erase PROVIDER 155 --dry-run
    """
    from signspool.entries import Looker  # noqa: PLC0415

    settings = settings_of(context, config)
    spool = spool_of(settings)
    looker = Looker(spool, settings)
    with database_of(settings) as database:
        eraser = _Eraser(database, looker, provider, document_id)
        known, entries = eraser.look()
        if known is None and not entries:
            complain(f"no document {shortened(document_id)} of {provider} is known, and no entry is of it")
            raise typer.Exit(1)
        shown = _shown(known, entries)
        if not as_json:
            _print(shown)
        confirm(f"This erases {provider} {shortened(document_id)} for good.", yes=yes, dry_run=dry_run)
        if not dry_run:
            expect_owner(spool)
        left = [] if dry_run else eraser.erase(entries, give_up=give_up)
    if as_json:
        print_json({**shown, "left": left, "dry_run": dry_run})
    else:
        say("nothing was erased" if dry_run else "erased")
    for place in left:
        complain(f"{place} came meanwhile, and is still there: repeat the command")
    if shown["elsewhere"]:
        complain("what lies on other nodes is still there: repeat the command on each")
    if left:
        raise typer.Exit(1)


class _Eraser:
    """Erases one document from database and folders."""

    def __init__(self, database: Database, looker: Looker, provider: str, document_id: str) -> None:
        self._database = database
        self._looker = looker
        self._spool = looker.spool
        self._spool_id = looker.spool.id()
        self._provider = provider
        self._document_id = document_id

    def look(self) -> tuple[Traces | None, list[Seen]]:
        """What there is, in the database and in the folders."""
        from processor.erase import traces  # noqa: PLC0415

        with self._database.transaction() as connection:
            known = traces(
                connection,
                self._provider,
                self._document_id,
                spool_id=self._spool_id,
                now=self._spool.clock.now(),
            )
        return known, self._entries()

    def _entries(self) -> list[Seen]:
        from signspool.entries import Choice  # noqa: PLC0415

        choice = Choice(provider=self._provider, document_id=self._document_id)
        found = list(self._looker.chosen(list(Folder), choice))
        # Damaged files tell by their name alone whose they are.
        damaged = (seen for seen in self._looker.named(self._document_id) if seen.record is None)
        return [*found, *damaged]

    def erase(self, entries: list[Seen], *, give_up: bool) -> list[str]:
        """Erase; returns the places of entries that came meanwhile and are left.

        Raises:
            UsageError: an entry is not recorded yet, or something is owed or being worked on.
        """
        from processor.erase import erase_rows_and_files, stop_work  # noqa: PLC0415

        if waiting := [seen.place for seen in entries if seen.folder is Folder.SPOOL]:
            raise UsageError(f"{waiting[0]} is not recorded yet: let the processor do that first")
        known = stop_work(
            self._database,
            self._provider,
            self._document_id,
            spool_id=self._spool_id,
            now=self._spool.clock.now(),
            give_up=give_up,
        )
        left = self._erase_entries(entries)
        if known is not None:
            erase_rows_and_files(
                self._database,
                self._spool,
                known.document_fk,
                spool_id=self._spool_id,
                now=self._spool.clock.now(),
            )
        return left

    def _erase_entries(self, entries: list[Seen]) -> list[str]:
        from processor.erase import erase_entry  # noqa: PLC0415

        for _ in range(_ROUNDS):
            for seen in entries:
                if seen.folder is not Folder.SPOOL:
                    erase_entry(self._spool, seen.folder, seen.entry, seen.data, seen.record)
            entries = self._entries()
            if not entries:
                break
        return [seen.place for seen in entries]


def _shown(known: Traces | None, entries: list[Seen]) -> dict[str, Any]:
    return {
        "status": known.status if known else None,
        "entries": [seen.place for seen in entries],
        "files": [f"files/{path}" for path in known.files] if known else [],
        "owed": known.owed if known else [],
        "copies": known.copies if known else [],
        "elsewhere": known.elsewhere if known else [],
    }


def _print(shown: dict[str, Any]) -> None:
    for place in (*shown["entries"], *shown["files"]):
        if place.startswith(f"{Folder.SPOOL}/"):
            say(f"wait    {place}: it is not recorded yet, and the processor has to do that first")
        else:
            say(f"erase   {place}")
    for row in shown["owed"]:
        say(f"owed    {row['task']} ({row['destination']}), {row['state']}: needs --give-up")
    for row in shown["copies"]:
        reference = f", there called {row['remote_reference']}" if row["remote_reference"] else ""
        say(f"copy    at {row['destination']}, sha256 {row['sha256']}{reference}: erase it there")
    for place in shown["elsewhere"]:
        say(f"other   {place} lies on another node")
    say(
        f"{count_text(len(shown['entries']), 'entry')}, {count_text(len(shown['files']), 'fetched file')}, "
        "and the texts of its rows; what stays: id, statuses, times, digests"
    )

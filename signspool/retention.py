"""`signspool retention`: what is over, and deleting it now."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import typer

from signspool.context import (
    Config,
    DryRun,
    Json,
    Yes,
    confirm,
    database_of,
    expect_owner,
    settings_of,
    spool_of,
)
from signspool.output import complain, count_text, print_json, say

if TYPE_CHECKING:
    from processor.retention import Expired
    from shared.settings import Settings
    from shared.spool import Spool


def retention(
    context: typer.Context,
    *,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Delete what was kept for its whole time, as the processor does by itself once a day.

    Days of done/ and refused/, reasons without an entry, old lists of digests, and the history of documents
    that are finished for long. The lists of digests that are missing are made first.

    Example: signspool retention --dry-run
    """
    from processor import parts  # noqa: PLC0415

    settings = settings_of(context, config)
    spool = spool_of(settings)
    with database_of(settings) as database:
        keeping = parts.housekeeping(settings, spool, database)
        over = parts.retention(settings, spool).expired()
        documents = keeping.history.over()
        shown = _shown(spool, over, documents)
        if not as_json:
            _print(settings, shown)
        confirm("This deletes them for good.", yes=yes, dry_run=dry_run)
        listed: list[str] = []
        if not dry_run:
            expect_owner(spool)
            kept = keeping.work(threading.Event())
            listed = kept.listed
            if not kept.is_whole:
                complain("the processor is at it at this moment: nothing was done here")
                raise typer.Exit(1)
    if as_json:
        print_json({**shown, "listed": listed, "dry_run": dry_run})
        return
    for day in listed:
        say(f"made the list done/{day}.sha256")
    say("nothing was deleted" if dry_run else "deleted")


def _shown(spool: Spool, over: Expired, documents: int) -> dict[str, Any]:
    days = [
        {"folder": str(folder), "day": day, "files": _count(spool.folder(folder) / day)}
        for folder, day in over.days
    ]
    return {"days": days, "reasons": over.reasons, "lists": over.lists, "documents": documents}


def _count(path: os.PathLike[str]) -> int:
    try:
        with os.scandir(path) as found:
            return sum(1 for _ in found)
    except FileNotFoundError:
        return 0


def _print(settings: Settings, shown: dict[str, Any]) -> None:
    for day in shown["days"]:
        say(f"{day['folder']}/{day['day']}: {count_text(day['files'], 'file')}")
    for path in (*shown["reasons"], *shown["lists"]):
        say(path)
    kept_days = settings.database.retention_events / 86_400
    say(
        f"{count_text(len(shown['days']), 'day')}, "
        f"{count_text(len(shown['reasons']), 'reason')} without entry, "
        f"{count_text(len(shown['lists']), 'old list')}, and the history of "
        f"{count_text(shown['documents'], 'document')} finished for more than {kept_days:g} days"
    )

"""`signspool spool requeue` and `discard`: entries put back, and thrown away."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from shared.errors import UsageError
from shared.spool import Folder
from signspool.choosing import (
    All,
    Day,
    Document,
    Names,
    OlderThan,
    Provider,
    Reason,
    Selection,
    choice_of,
    looker_of,
)
from signspool.context import Config, DryRun, Json, Yes
from signspool.output import complain, count_text, print_json, say

_REFUSED_ADVICE = (
    "a copy in refused/ was turned away by the door and cannot be put back as it is: mend the settings of "
    "its provider, then have it judged again with signspool spool reverify"
)


class Requeueable(StrEnum):
    """Folders that `--folder` takes for a requeue; `refused` is there to be explained."""

    QUARANTINE = "quarantine"
    DEFERRED = "deferred"
    DONE = "done"
    REFUSED = "refused"


class Discardable(StrEnum):
    """Folders from which entries may be thrown away."""

    QUARANTINE = "quarantine"
    REFUSED = "refused"


def requeue(
    context: typer.Context,
    *,
    names: Names = None,
    every: All = False,
    folder: Annotated[Requeueable | None, typer.Option("--folder", help="Folder to take from.")] = None,
    provider: Provider = None,
    document: Document = None,
    day: Day = None,
    older_than: OlderThan = None,
    reason: Reason = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Move entries back into spool/, where the processor handles them again and does what is still owed.

    With --all it asks first, or wants --yes.

    Example: signspool spool requeue --all --folder quarantine --dry-run
    """
    if folder is Requeueable.REFUSED:
        raise UsageError(_REFUSED_ADVICE)
    looker = looker_of(context, config)
    if names and folder is None and any(looker.named(name, [Folder.REFUSED]) for name in names):
        raise UsageError(_REFUSED_ADVICE)
    selection = Selection(
        looker,
        names or [],
        every,
        [Folder(folder)] if folder else [Folder.QUARANTINE, Folder.DEFERRED, Folder.DONE],
        choice_of(provider=provider, document=document, day=day, older_than=older_than, reason=reason),
    )
    selection.confirm("move", yes=yes, dry_run=dry_run)
    moved, gone = [], []
    for seen in selection.entries():
        if not dry_run and looker.spool.move(seen.entry, seen.folder, Folder.SPOOL) is None:
            complain(f"{seen.path} is gone: somebody else moved it")
            gone.append(seen.place)
            continue
        moved.append(seen.place)
        if not as_json:
            say(f"{'would move' if dry_run else 'moved'} {seen.place} to spool/")
    if as_json:
        print_json({"moved": moved, "gone": gone, "unknown": selection.missing, "dry_run": dry_run})
    else:
        say(f"{count_text(len(moved), 'entry')} {'to move' if dry_run else 'moved'}")
    selection.complain_of_missing()


def discard(
    context: typer.Context,
    *,
    names: Names = None,
    every: All = False,
    folder: Annotated[Discardable | None, typer.Option("--folder", help="Folder to delete from.")] = None,
    provider: Provider = None,
    document: Document = None,
    day: Day = None,
    older_than: OlderThan = None,
    reason: Reason = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete them; there is no way back.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Delete entries from quarantine/ or refused/, for good.

    Example: signspool spool discard --all --folder refused --yes
    """
    if not yes and not dry_run:
        raise UsageError("this deletes callbacks for good: look first with --dry-run, then say --yes")
    looker = looker_of(context, config)
    selection = Selection(
        looker,
        names or [],
        every,
        [Folder(folder)] if folder else [Folder(item) for item in Discardable],
        choice_of(provider=provider, document=document, day=day, older_than=older_than, reason=reason),
    )
    deleted, gone = [], []
    for seen in selection.entries():
        if not dry_run and not looker.spool.remove(seen.entry, seen.folder):
            complain(f"{seen.path} is gone: somebody else moved it")
            gone.append(seen.place)
            continue
        deleted.append(seen.place)
        if not as_json:
            say(f"{'would delete' if dry_run else 'deleted'} {seen.place}")
    if as_json:
        print_json({"deleted": deleted, "gone": gone, "unknown": selection.missing, "dry_run": dry_run})
    else:
        say(f"{count_text(len(deleted), 'entry')} {'to delete' if dry_run else 'deleted'}")
    selection.complain_of_missing()

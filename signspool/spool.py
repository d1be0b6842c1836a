"""`signspool spool`: the folders, listed, shown, put back, thrown away, and counted by age."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.errors import UsageError
from shared.spool import Folder
from signspool.context import Config, Json, Limit, new_group, settings_of, spool_of
from signspool.output import age_text, complain, count_text, pretty, print_json, print_table, say

if TYPE_CHECKING:
    from signspool.entries import Choice, Looker, Seen

group = new_group("The folders: list, show, requeue, discard, and count by age.")

_SHORTEST_PART = 3
"""Characters; fewer stand in nearly every name."""

_REFUSED_ADVICE = (
    "a copy in refused/ was turned away by the door and cannot be put back as it is: mend the settings of "
    "its provider, and have the provider send it again"
)

FolderArgument = Annotated[Folder | None, typer.Argument(help="Folder to look into; all when not given.")]
Provider = Annotated[str | None, typer.Option("--provider", help="Entries of this provider only.")]
Document = Annotated[str | None, typer.Option("--document", help="Entries of this document only.")]
Day = Annotated[str | None, typer.Option("--day", help="Entries of this day only, as in 2026-11-21.")]
OlderThan = Annotated[str | None, typer.Option("--older-than", help="Entries of this age or more, as in 2h.")]
Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="File names, guids or document ids.")
]
All = Annotated[bool, typer.Option("--all", help="Every entry of --folder that fits the other options.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


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


def _looker(context: typer.Context, config: Path | None) -> Looker:
    from signspool.entries import Looker  # noqa: PLC0415  (needs the settings, which are slow to import)

    settings = settings_of(context, config)
    return Looker(spool_of(settings), settings)


def _choice(
    provider: str | None, older_than: str | None, document: str | None = None, day: str | None = None
) -> Choice:
    from signspool.entries import Choice, parse_age, parse_day  # noqa: PLC0415

    return Choice(provider, document, parse_day(day), parse_age(older_than))


@group.command("ls")
def list_entries(
    context: typer.Context,
    *,
    folder: FolderArgument = None,
    provider: Provider = None,
    document: Document = None,
    day: Day = None,
    older_than: OlderThan = None,
    limit: Limit = 100,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """List entries, the newest day first, each with the reason why it lies where it lies.

    Example: signspool spool ls quarantine --older-than 1h
    """
    looker = _looker(context, config)
    folders = [folder] if folder else list(Folder)
    choice = _choice(provider, older_than, document, day)
    found = list(islice(looker.chosen(folders, choice), limit + 1))
    more, found = len(found) > limit, found[:limit]
    reasons = looker.reasons(found)
    rows = [seen.as_json(reasons.get(seen)) for seen in found]
    if as_json:
        print_json(rows)
    else:
        print_table(
            ("folder", "day", "name", "document", "provider", "action", "age", "reason"),
            [
                (
                    row["folder"],
                    row["day"],
                    row["name"],
                    row["document_id"],
                    row["provider"],
                    row["action"],
                    age_text(row["age_seconds"]),
                    row["reason"],
                )
                for row in rows
            ],
            names=("name",),
        )
    if more:
        complain(f"there are more than {limit}: narrow the choice, or raise --limit")


@group.command("show")
def show_entry(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Argument(help="File name, guid, document id, or a part of a name.")],
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Show the content of entries, where they lie and why; exit 1 when there is none.

    Example: signspool spool show 155
    """
    looker = _looker(context, config)
    found = looker.named(name)
    if not found:
        if len(name) < _SHORTEST_PART:
            raise UsageError(
                f"no entry is called {name!r}, and of a part of a name at least {_SHORTEST_PART} characters "
                "are needed: signspool spool ls lists them all"
            )
        places = looker.spool.find(name)
        found = [seen for place in places if (seen := looker.look(*place)) is not None]
    if not found:
        complain(f"no entry is called {name}: signspool spool ls lists them")
        raise typer.Exit(1)
    _print_entries(looker, found, as_json=as_json)


def _print_entries(looker: Looker, found: list[Seen], *, as_json: bool) -> None:
    from signspool.entries import content_of  # noqa: PLC0415

    reasons = looker.reasons(found)
    if as_json:
        print_json([{**seen.as_json(reasons.get(seen)), "content": content_of(seen)} for seen in found])
        return
    for number, seen in enumerate(found):
        if number:
            say("")
        say(f"file:    {seen.path}")
        say(f"folder:  {seen.folder}, for {age_text(seen.age_seconds)}")
        if reason := reasons.get(seen):
            say(f"reason:  {reason}")
        content = content_of(seen)
        for line in (f"no JSON: {seen.problem}" if content is None else pretty(content)).splitlines():
            say(line)


@group.command("requeue")
def requeue(
    context: typer.Context,
    *,
    names: Names = None,
    every: All = False,
    folder: Annotated[Requeueable | None, typer.Option("--folder", help="Folder to take from.")] = None,
    provider: Provider = None,
    older_than: OlderThan = None,
    dry_run: DryRun = False,
    config: Config = None,
) -> None:
    """Move entries back into spool/, where the processor handles them again and does what is still owed.

    Example: signspool spool requeue --all --folder quarantine --older-than 1h
    """
    if folder is Requeueable.REFUSED:
        raise UsageError(_REFUSED_ADVICE)
    looker = _looker(context, config)
    folders = [Folder(folder)] if folder else [Folder.QUARANTINE, Folder.DEFERRED, Folder.DONE]
    if names and folder is None and any(looker.named(name, [Folder.REFUSED]) for name in names):
        raise UsageError(_REFUSED_ADVICE)
    missing: list[str] = []
    count = 0
    for seen in _meant(
        looker, names, every=every, folders=folders, choice=_choice(provider, older_than), missing=missing
    ):
        if not dry_run and looker.spool.move(seen.entry, seen.folder, Folder.SPOOL) is None:
            complain(f"{seen.path} is gone: somebody else moved it")
            continue
        count += 1
        say(f"{'would move' if dry_run else 'moved'} {seen.place} to spool/")
    _conclude(count, "to move" if dry_run else "moved", missing)


@group.command("discard")
def discard(
    context: typer.Context,
    *,
    names: Names = None,
    every: All = False,
    folder: Annotated[Discardable | None, typer.Option("--folder", help="Folder to delete from.")] = None,
    provider: Provider = None,
    older_than: OlderThan = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete them; there is no way back.")] = False,
    dry_run: DryRun = False,
    config: Config = None,
) -> None:
    """Delete entries from quarantine/ or refused/, for good.

    Example: signspool spool discard --all --folder refused --older-than 7d --yes
    """
    if not yes and not dry_run:
        raise UsageError("this deletes callbacks for good: look first with --dry-run, then say --yes")
    looker = _looker(context, config)
    folders = [Folder(folder)] if folder else [Folder(item) for item in Discardable]
    missing: list[str] = []
    count = 0
    for seen in _meant(
        looker, names, every=every, folders=folders, choice=_choice(provider, older_than), missing=missing
    ):
        if not dry_run:
            looker.spool.remove(seen.entry, seen.folder)
        count += 1
        say(f"{'would delete' if dry_run else 'deleted'} {seen.place}")
    _conclude(count, "to delete" if dry_run else "deleted", missing)


def _meant(
    looker: Looker,
    names: Iterable[str] | None,
    *,
    every: bool,
    folders: list[Folder],
    choice: Choice,
    missing: list[str],
) -> Iterator[Seen]:
    """The entries that are to be acted on; names that fit none are added to `missing`.

    Raises:
        UsageError: neither names nor --all with one folder are given, or both.
    """
    if bool(names) == every:
        raise UsageError("give either names, or --all together with --folder")
    if every and len(folders) != 1:
        raise UsageError(f"--all needs --folder: one of {', '.join(folders)}")
    if every:
        yield from looker.chosen(folders, choice)
    for name in names or ():
        found = looker.named(name, folders)
        if not found:
            missing.append(name)
        yield from (seen for seen in found if choice.fits(seen))


def _conclude(count: int, done: str, missing: list[str]) -> None:
    """Say how many it were; exit 1 when a name fitted nothing."""
    say(f"{count_text(count, 'entry')} {done}")
    for name in missing:
        complain(f"no entry is called {name}: signspool spool ls lists them")
    if missing:
        raise typer.Exit(1)


_BUCKETS_MINUTES = (5, 10, 20, 40, 80, 160, 320, 640, 1280)


@group.command("shape")
def shape(
    context: typer.Context,
    *,
    folder: Annotated[Folder, typer.Argument(help="Folder to count.")] = Folder.SPOOL,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Count the entries of a folder, provider by age in minutes, in the manner of Postfix's qshape.

    Example: signspool spool shape deferred
    """
    looker = _looker(context, config)
    counts: dict[str, list[int]] = {}
    for seen in looker.chosen([folder], _choice(None, None)):
        minutes = seen.age_seconds / 60
        place = sum(minutes >= bound for bound in _BUCKETS_MINUTES)
        counts.setdefault(seen.provider, [0] * (len(_BUCKETS_MINUTES) + 1))[place] += 1
    total = [sum(column) for column in zip(*counts.values(), strict=True)] or [0] * (
        len(_BUCKETS_MINUTES) + 1
    )
    if as_json:
        print_json(
            {
                "folder": folder.value,
                "buckets_minutes": list(_BUCKETS_MINUTES),
                "total": sum(total),
                "counts": total,
                "providers": {
                    name: {"total": sum(row), "counts": row} for name, row in sorted(counts.items())
                },
            }
        )
        return
    bounds = [f"<{bound}m" for bound in _BUCKETS_MINUTES]
    rows = [("TOTAL", sum(total), *total)]
    rows += [
        (name, sum(row), *row)
        for name, row in sorted(counts.items(), key=lambda item: (-sum(item[1]), item[0]))
    ]
    print_table(("", "T", *bounds, f"{_BUCKETS_MINUTES[-1]}m+"), rows)

"""`signspool spool`: the folders, listed, shown and counted by age; what changes them stands beside."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from shared.errors import UsageError
from shared.spool import Folder
from signspool import moves, reverify, verifying
from signspool.choosing import Day, Document, OlderThan, Provider, Reason, choice_of, looker_of
from signspool.context import Config, Json, Limit, new_group
from signspool.output import age_text, complain, pretty, print_json, print_table, say

if TYPE_CHECKING:
    from signspool.entries import Looker, Seen

group = new_group("The folders: list, show, requeue, discard, judge again, count by age, verify.")

_SHORTEST_PART = 3
"""Characters; fewer stand in nearly every name."""

FolderArgument = Annotated[Folder | None, typer.Argument(help="Folder to look into; all when not given.")]


@group.command("ls")
def list_entries(
    context: typer.Context,
    *,
    folder: FolderArgument = None,
    provider: Provider = None,
    document: Document = None,
    day: Day = None,
    older_than: OlderThan = None,
    reason: Reason = None,
    limit: Limit = 100,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """List entries, the newest day first, each with the reason why it lies where it lies.

    Example: signspool spool ls quarantine --older-than 1h
    """
    looker = looker_of(context, config)
    folders = [folder] if folder else list(Folder)
    choice = choice_of(provider=provider, document=document, day=day, older_than=older_than, reason=reason)
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
    looker = looker_of(context, config)
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


_BUCKETS_MINUTES = (5, 10, 20, 40, 80, 160, 320, 640, 1280)


@group.command("shape")
def shape(
    context: typer.Context,
    *,
    folder: Annotated[Folder, typer.Argument(help="Folder to count.")] = Folder.SPOOL,
    provider: Provider = None,
    document: Document = None,
    day: Day = None,
    older_than: OlderThan = None,
    reason: Reason = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Count the entries of a folder, provider by age in minutes, in the manner of Postfix's qshape.

    Example: signspool spool shape deferred
    """
    looker = looker_of(context, config)
    choice = choice_of(provider=provider, document=document, day=day, older_than=older_than, reason=reason)
    counts: dict[str, list[int]] = {}
    for seen in looker.chosen([folder], choice):
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


group.command("requeue")(moves.requeue)
group.command("discard")(moves.discard)
group.command("reverify")(reverify.reverify)
group.command("verify")(verifying.verify)

"""The options by which commands choose entries, and the entries that they mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.errors import UsageError
from shared.spool import Folder
from signspool.completion import provider_names
from signspool.context import confirm, settings_of, spool_of
from signspool.output import complain, count_text

if TYPE_CHECKING:
    from signspool.entries import Choice, Looker, Seen

Provider = Annotated[
    str | None,
    typer.Option("--provider", help="Entries of this provider only.", autocompletion=provider_names),
]
Document = Annotated[str | None, typer.Option("--document", help="Entries of this document only.")]
Day = Annotated[str | None, typer.Option("--day", help="Entries of this day only, as in 2026-11-21.")]
OlderThan = Annotated[str | None, typer.Option("--older-than", help="Entries of this age or more, as in 2h.")]
Reason = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help="Entries whose reason has this text in it, in any case."),
]
Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="File names, guids or document ids.")
]
All = Annotated[bool, typer.Option("--all", help="Every entry of --folder that fits the other options.")]


def looker_of(context: typer.Context, config: Path | None) -> Looker:
    """Who looks into the folders of the spool that the settings name.

    Raises:
        SpoolUnavailableError: there is none.
    """
    from signspool.entries import Looker  # noqa: PLC0415  (needs the settings, which are slow to import)

    settings = settings_of(context, config)
    return Looker(spool_of(settings), settings)


def choice_of(
    *,
    provider: str | None = None,
    document: str | None = None,
    day: str | None = None,
    older_than: str | None = None,
    reason: str | None = None,
) -> Choice:
    """What the options choose.

    Raises:
        UsageError: one of them cannot be read.
    """
    from signspool.entries import Choice, parse_age, parse_day  # noqa: PLC0415

    return Choice(provider, document, parse_day(day), parse_age(older_than), reason)


@dataclass(slots=True)
class Selection:
    """The entries that a command is to act on: those that are named, or all of one folder that fit.

    `missing` is filled while they are gone through: names that fit none.

    Raises:
        UsageError: neither names nor `--all` with one folder are given, or both.
    """

    looker: Looker
    names: Iterable[str]
    every: bool
    folders: list[Folder]
    choice: Choice
    missing: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if bool(self.names) == self.every:
            raise UsageError("give either names, or --all together with --folder")
        if self.every and len(self.folders) != 1:
            raise UsageError(f"--all needs --folder: one of {', '.join(self.folders)}")

    def entries(self) -> Iterator[Seen]:
        """The entries, each once, as far as they are still there."""
        if self.every:
            yield from self.looker.chosen(self.folders, self.choice)
            return
        self.missing.clear()
        met: set[str] = set()
        for name in self.names:
            found = self.looker.named(name, self.folders)
            if not found:
                self.missing.append(name)
            for seen in self.looker.fitting(found, self.choice):
                if seen.place not in met:
                    met.add(seen.place)
                    yield seen

    def confirm(self, verb: str, *, yes: bool, dry_run: bool) -> None:
        """Return when everything that is meant shall be done; entries that a person named need no asking.

        Raises:
            UsageError: it shall not.
        """
        if self.every and not yes and not dry_run:
            count = sum(1 for _ in self.entries())
            confirm(f"This would {verb} {count_text(count, 'entry')}.", yes=yes, dry_run=dry_run)

    def complain_of_missing(self) -> None:
        """Name what fitted nothing; exit 1 when there is any."""
        for name in self.missing:
            complain(f"no entry is called {name}: signspool spool ls lists them")
        if self.missing:
            raise typer.Exit(1)

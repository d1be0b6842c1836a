"""`signspool spool reverify`: refused callbacks judged again after the settings were corrected."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.errors import SpoolUnavailableError
from shared.spool import Folder
from signspool.choosing import (
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
from signspool.context import Config, DryRun, Json, Yes, confirm, expect_owner
from signspool.output import complain, print_json, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from callback_api.judging import Judged
    from shared.providers import AnyProvider
    from shared.spool import Spool
    from signspool.entries import Seen


def reverify(
    context: typer.Context,
    *,
    names: Names = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every copy in refused/ that fits the other options.")
    ] = False,
    provider: Provider = None,
    document: Document = None,
    day: Day = None,
    older_than: OlderThan = None,
    reason: Reason = None,
    vouch: Annotated[
        bool,
        typer.Option(
            "--vouch",
            help="Let in what cannot be judged, marked as vouched: you know that its provider sent it.",
        ),
    ] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Judge refused callbacks again, by the settings of now and against the time when they came.

    Those that pass go into spool/, durably, under the day they came; the others stay where they are. A
    signature (HMAC) is judged from the copy. A secret that came along is never kept, so where that is the
    proof nothing can be judged: have it sent again, or vouch for it. Exit 1 when a copy stays.

    Example: signspool spool reverify --all --provider PROVIDER --dry-run
    """
    looker = looker_of(context, config)
    choice = choice_of(provider=provider, document=document, day=day, older_than=older_than, reason=reason)
    selection = Selection(looker, names or [], every, [Folder.REFUSED], choice)
    if vouch:
        confirm("This lets in callbacks whose sender nothing proves.", yes=yes, dry_run=dry_run)
    selection.confirm("judge", yes=yes or vouch, dry_run=dry_run)
    if not dry_run:
        expect_owner(looker.spool)
    judge = _Judge(looker.spool, looker.providers(), vouch=vouch, dry_run=dry_run)
    rows = []
    for seen in selection.entries():
        row = judge.again(seen)
        rows.append(row)
        if not as_json:
            into = f" -> {row['entry']}" if row["entry"] else ""
            say(f"{row['judgement']}: {seen.place}{into}: {row['reason']}")
    counts = Counter(row["judgement"] for row in rows)
    if as_json:
        print_json({"judged": rows, "unknown": selection.missing, "dry_run": dry_run})
    else:
        told = ", ".join(f"{count} {word}" for word, count in sorted(counts.items())) or "no copy fits"
        say(f"{told}{'; nothing was moved' if dry_run else ''}")
    selection.complain_of_missing()
    if any(row["entry"] is None for row in rows):
        raise typer.Exit(1)


class _Judge:
    """Judges copies one after the other, and puts those that pass into `spool/`."""

    def __init__(
        self, spool: Spool, providers: Mapping[str, AnyProvider], *, vouch: bool, dry_run: bool
    ) -> None:
        from shared.commit import GroupCommit  # noqa: PLC0415

        self._spool = spool
        self._providers = providers
        self._vouch = vouch
        self._dry_run = dry_run
        self._commit = GroupCommit(spool)

    def again(self, seen: Seen) -> dict[str, Any]:
        """Judge one copy; what became of it, as `--json` prints it.

        Raises:
            SpoolUnavailableError: the callback could not be stored; its copy is still there.
        """
        judged = self._judged(seen)
        if judged.entry is not None and not self._dry_run:
            self._let_in(seen, judged)
        return {
            "copy": seen.place,
            "provider": seen.provider,
            "document_id": seen.document_id,
            "judgement": str(judged.judgement),
            "reason": judged.reason,
            "trust": str(judged.trust),
            "entry": f"{Folder.SPOOL}/{judged.entry.day}/{judged.entry.name}" if judged.entry else None,
        }

    def _judged(self, seen: Seen) -> Judged:
        from callback_api.judging import Judged, Judgement, judge_again  # noqa: PLC0415

        if seen.record is None:
            return Judged(Judgement.UNJUDGEABLE, seen.problem)
        provider = self._providers.get(seen.provider)
        if provider is None:
            return Judged(Judgement.UNJUDGEABLE, f"{seen.provider} is in no setting: add [providers.NAME]")
        if why := provider.why_closed():
            return Judged(Judgement.REFUSED, f"the door is closed for {seen.provider}: {why}")
        return judge_again(provider, seen.record, now=self._spool.clock.local(), vouch=self._vouch)

    def _let_in(self, seen: Seen, judged: Judged) -> None:
        from shared.commit import NewFile  # noqa: PLC0415

        assert judged.entry is not None
        file = NewFile(Folder.SPOOL, judged.entry, judged.content)
        try:
            self._commit.commit([file])
        finally:
            self._commit.close()
        if file.error is not None:
            raise SpoolUnavailableError(f"{file.error}; {seen.place} is still there")
        try:
            # After it is safe in spool/; dying in between leaves both, which count once.
            self._spool.remove(seen.entry, Folder.REFUSED)
        except SpoolUnavailableError as error:
            complain(f"{seen.place} was let in, and its copy stays: {error}")
